// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/permits.h"

#include <algorithm>
#include <bit>

#include "common/assert.h"

namespace rnbd::rtrs {
namespace {

constexpr std::uint32_t kWordBits = 64;
constexpr std::uint32_t kServicePermits = 4;

constexpr std::uint64_t bits_between(std::uint32_t begin, std::uint32_t end) {
  const std::uint64_t upto = end >= kWordBits ? ~std::uint64_t{0} : (std::uint64_t{1} << end) - 1;
  return upto & ~((std::uint64_t{1} << begin) - 1);
}

constexpr std::uint64_t bit_of(PermitId permit) { return std::uint64_t{1} << permit % kWordBits; }

std::atomic_ref<std::uint64_t> word_of(std::span<PermitPool::Word> words, PermitId permit) {
  return std::atomic_ref(words[permit / kWordBits].used);
}

}  // namespace

PermitPool::PermitPool(std::uint32_t depth, std::uint32_t shares, std::span<Word> bitmap)
    : depth_(depth),
      own_(bitmap.empty() ? words(depth) : 0),
      used_(bitmap.empty() ? std::span(own_) : bitmap),
      shares_(shares) {
  RNBD_ASSERT(depth > 1 && shares > 0 && used_.size() == words(depth));
  const std::uint32_t queues = shares - 1;
  const std::uint32_t service =
      queues == 0 ? depth : std::min(kServicePermits, std::max(1U, depth / (2 * shares)));
  shares_[0].home = {0, service};
  const std::uint32_t left = depth - service;
  for (std::uint32_t i = 0; i < queues; ++i) {
    if (left >= queues) {
      shares_[i + 1].home = {service + left * i / queues, service + left * (i + 1) / queues};
    } else {
      // Too few to go round: several shares call the same permit their home.
      const std::uint32_t permit = service + i % left;
      shares_[i + 1].home = {permit, permit + 1};
    }
  }
}

bool PermitPool::acquire(std::uint32_t share, std::span<PermitId> permits) {
  if (try_acquire(share, permits)) {
    set_starving(shares_[share], false);
    return true;
  }
  // Marked first, then tried once more: a permit that came back in between is not missed.
  set_starving(shares_[share], true);
  shares_[share].wake = true;
  if (!try_acquire(share, permits)) return false;
  shares_[share].wake = false;
  set_starving(shares_[share], false);
  return true;
}

void PermitPool::claim(PermitId permit) {
  RNBD_ASSERT(permit < depth_);
  word_of(used_, permit).fetch_or(bit_of(permit));
}

bool PermitPool::try_acquire(std::uint32_t share, std::span<PermitId> permits) {
  const Range home = shares_[share].home;
  std::size_t got = take(home, permits);
  const std::uint32_t others_starve = starving_ - (shares_[share].starving ? 1 : 0);
  if (got < permits.size() && others_starve == 0) {
    got += take({home.end, depth_}, permits.subspan(got));
    // Never what is the service messages' own: OPEN must pass while all I/O waits for it.
    const std::uint32_t lendable = share == 0 ? 0 : std::min(shares_[0].home.end, home.begin);
    got += take({lendable, home.begin}, permits.subspan(got));
  }
  if (got == permits.size()) return true;
  release(permits.first(got));
  return false;
}

std::size_t PermitPool::take(Range range, std::span<PermitId> permits) {
  std::size_t got = 0;
  for (std::uint32_t at = range.begin; at < range.end && got < permits.size();) {
    const std::uint32_t word = at / kWordBits;
    const std::uint32_t base = word * kWordBits;
    const std::uint64_t mask = bits_between(at - base, std::min(range.end - base, kWordBits));
    const std::atomic_ref bits(used_[word].used);
    std::uint64_t used = bits.load();
    while (got < permits.size() && (~used & mask) != 0) {
      const auto bit = static_cast<std::uint32_t>(std::countr_zero(~used & mask));
      if (bits.compare_exchange_weak(used, used | std::uint64_t{1} << bit)) {
        permits[got++] = static_cast<PermitId>(base + bit);
        used |= std::uint64_t{1} << bit;
      }
    }
    at = base + kWordBits;
  }
  return got;
}

void PermitPool::release(std::span<const PermitId> permits) {
  for (const PermitId permit : permits) {
    const std::uint64_t before = word_of(used_, permit).fetch_and(~bit_of(permit));
    RNBD_ASSERT((before & bit_of(permit)) != 0);
  }
}

int PermitPool::next_to_wake() {
  if (starving_ == 0) return -1;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    if (shares_[i].starving && shares_[i].wake.exchange(false)) return static_cast<int>(i);
  }
  return -1;
}

void PermitPool::stop_starving(std::uint32_t share) {
  shares_[share].wake = false;
  set_starving(shares_[share], false);
}

void PermitPool::set_starving(Share& share, bool starving) {
  // Its own thread alone changes it; and what does not change is not written, since all look at it.
  if (share.starving.load(std::memory_order_relaxed) == starving) return;
  share.starving = starving;
  if (starving) {
    ++starving_;
  } else {
    --starving_;
  }
}

std::uint32_t PermitPool::guaranteed(std::uint32_t share) const {
  const Range home = shares_[share].home;
  return home.end - home.begin;
}

std::uint32_t PermitPool::in_use() const {
  std::uint32_t count = 0;
  for (Word& word : used_) {
    count += static_cast<std::uint32_t>(std::popcount(std::atomic_ref(word.used).load()));
  }
  return count;
}

std::vector<PermitId> PermitPool::all_used() const {
  std::vector<PermitId> result;
  for (std::uint32_t i = 0; i < depth_; ++i) {
    const auto permit = static_cast<PermitId>(i);
    if ((word_of(used_, permit).load() & bit_of(permit)) != 0) result.push_back(permit);
  }
  return result;
}

}  // namespace rnbd::rtrs
