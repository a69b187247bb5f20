// SPDX-License-Identifier: Apache-2.0
#include "common/spin.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace rnbd {
namespace {

/// The first window, and the shortest: below it, a sleep costs no more than looking.
constexpr Duration kShortest = std::chrono::microseconds(10);

/// Between two yields of a wait while others want the CPU. Each is a system call: while nobody
/// does, the time between them doubles.
constexpr Duration kBetweenYields = std::chrono::microseconds(8);

/// A yield lets somebody run if it takes longer than so many looks.
constexpr int kLooksPerQuietYield = 4;

/// What is lost in vain is at most this part of what was of use.
constexpr int kUsefulPerVain = 4;

/// Credit is kept for so many waits, so that a rush that ends costs no more than them.
constexpr int kWaitsInCredit = 4;

}  // namespace

Status check_spin_us(std::int64_t us) {
  if (us >= 0 && us <= kMaxSpinUs) return {};
  return fail(EINVAL, fmt::format("spin_us must be 0 to {}, not {}", kMaxSpinUs, us));
}

void Spin::worked(TimePoint now) {
  if (!waiting_) return;
  const Duration waited = now - since_;
  if (looking_) earn(waited);
  learn(waited);
  waiting_ = false;
  since_ = now;
}

Spin::Next Spin::next(TimePoint now) {
  if (!waiting_) begin_wait(now);
  if (!looking_) return Next::Sleep;
  const Duration waited = now - since_;
  if (waited >= window_) {
    credit_ -= window_;
    looking_ = false;
    return Next::Sleep;
  }
  const Duration round = now - std::exchange(last_, now);
  if (yielded_) {
    const bool others = round > kLooksPerQuietYield * look_;
    between_yields_ = others ? kBetweenYields : 2 * between_yields_;
    yield_ = waited + between_yields_;
  } else if (waited > Duration::zero()) {
    look_ = round;
  }
  yielded_ = waited >= yield_;
  return yielded_ ? Next::Yield : Next::Look;
}

void Spin::begin_wait(TimePoint now) {
  if (since_ != TimePoint()) earn(now - since_);
  since_ = now;
  waiting_ = true;
  looking_ = window_ > Duration::zero() && credit_ >= window_;
  last_ = now;
  yielded_ = false;
  yield_ = Duration::zero();
  between_yields_ = kBetweenYields;
}

/// Waits that looking could have ended make it worth a longer look, and others a shorter one, down
/// to none: where each wait is long, none is looked through.
void Spin::learn(Duration waited) {
  if (waited > longest_) {
    window_ /= 2;
    if (window_ < kShortest) window_ = Duration::zero();
  } else if (waited > window_) {
    window_ = std::clamp(2 * waited, std::min(kShortest, longest_), longest_);
  }
}

void Spin::earn(Duration useful) {
  credit_ = std::min(credit_ + useful / kUsefulPerVain, kWaitsInCredit * longest_);
}

}  // namespace rnbd
