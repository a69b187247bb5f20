// SPDX-License-Identifier: Apache-2.0
// A device's queue under anything, in any order, against a model of what the disk must hold.
#include <cerrno>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "unit/queue_bench.h"

namespace rnbd::client {
namespace {

using test::FakeNbdKernel;
using test::pattern;
using test::QueueBench;
using Tag = FakeNbdKernel::Tag;

struct Mix {
  std::uint32_t permits;
  std::uint32_t max_io_size;
  int socket_bytes;
  std::uint32_t max_length;
  std::size_t depth;
  bool cut;     ///< bytes trickle
  bool faults;  ///< some pieces fail
};

/// The model: what the disk must hold if all went well, and what must not be touched meanwhile.
class Workload {
 public:
  Workload(const Mix& mix, unsigned seed)
      : mix_(mix),
        random_(seed),
        bench_({.channel = {.permits = mix.permits, .max_io_size = mix.max_io_size},
                .disk_bytes = 4 << 20,
                .socket_bytes = mix.socket_bytes}),
        expected_(bench_.disk) {
    if (mix.faults) {
      bench_.channel.fault = [this](const auto&) { return random_() % 50 == 0 ? EIO : 0; };
    }
  }

  void run(int requests) {
    std::uint64_t rounds = 0;
    while (requests > 0 || !open_.empty()) {
      ASSERT_LT(++rounds, 20'000'000U) << "stuck with " << open_.size() << " open";
      while (requests > 0 && open_.size() < mix_.depth && add()) --requests;
      if (mix_.cut) {
        bench_.kernel->send_step = 1 + random_() % 5000;
        bench_.kernel->receive_step = 1 + random_() % 5000;
      }
      if (random_() % 64 == 0) bench_.channel.refusals = 1;
      bench_.kernel->pump();
      bench_.worker.round();
      auto& pending = bench_.channel.pending;
      for (std::size_t i = random_() % 4; i > 0 && !pending.empty(); --i) {
        bench_.channel.complete(random_() % pending.size());
      }
      // A refusal for no reason is made good by the next permit that returns, or here.
      if (pending.empty() && bench_.channel.held() == 0) bench_.channel.release({});
      check();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_EQ(bench_.channel.held(), 0U);
    EXPECT_TRUE(bench_.disk == expected_);
    const auto counters = bench_.queue->counters();
    EXPECT_EQ(counters.in_flight, 0U);
    EXPECT_EQ(
        counters.reads + counters.writes + counters.flushes + counters.discards + counters.zeroes,
        bench_.kernel->requests().size());
  }

 private:
  bool overlaps(std::uint64_t offset, std::uint64_t length) const {
    return std::ranges::any_of(open_, [&](const auto& one) {
      const auto& request = one.second;
      return offset < request.first + request.second && request.first < offset + length;
    });
  }

  std::uint32_t any(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

  bool add() {
    const std::uint32_t kind = any(16);
    const std::uint64_t sectors = expected_.size() / 512;
    std::uint32_t length = 512 * (1 + any(mix_.max_length / 512));
    if (any(2) == 0) length = std::min(length, 512 * (1 + any(8)));
    const std::uint64_t offset = 512 * (random_() % (sectors - length / 512 + 1));
    auto& kernel = *bench_.kernel;
    if (kind == 0) {
      open_[kernel.flush()] = {0, 0};
      return true;
    }
    if (overlaps(offset, length)) return false;
    const auto place = expected_.begin() + static_cast<std::ptrdiff_t>(offset);
    Tag tag = 0;
    if (kind < 7) {
      tag = kernel.read(offset, length);
    } else if (kind < 13) {
      auto data = pattern(length, random_());
      std::ranges::copy(data, place);
      tag = kernel.write(offset, std::move(data), random_() % 4 == 0 ? kNbdFua : 0);
    } else {
      std::fill_n(place, length, std::byte{0});
      tag = kind == 13 ? kernel.trim(offset, length)
                       : kernel.write_zeroes(offset, length, kind == 14 ? kNbdNoHole : 0);
    }
    open_[tag] = {offset, length};
    return true;
  }

  void check() {
    std::erase_if(open_, [&](const auto& one) {
      auto& request = (*bench_.kernel)[one.first];
      if (!request.answered) return false;
      EXPECT_TRUE(mix_.faults || request.error == 0);
      const auto place = static_cast<std::ptrdiff_t>(request.offset);
      const auto length = static_cast<std::ptrdiff_t>(request.length);
      const bool whole = request.error == 0;
      if (!whole) {  // some of it may have been written
        std::copy_n(bench_.disk.begin() + place, length, expected_.begin() + place);
      }
      if (whole && request.command == NbdCommand::Read) {
        EXPECT_TRUE(std::equal(request.data.begin(), request.data.end(), expected_.begin() + place))
            << "read " << request.offset << "+" << request.length;
      }
      request.data = {};
      return true;
    });
  }

  Mix mix_;
  std::mt19937 random_;
  QueueBench bench_;
  std::vector<std::byte> expected_;
  std::map<Tag, std::pair<std::uint64_t, std::uint64_t>> open_;  ///< offset, length
};

class BlockQueueMix : public testing::TestWithParam<Mix> {};

TEST_P(BlockQueueMix, LosesNothingAndMixesNothingUp) {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Workload workload(GetParam(), seed);
    workload.run(400);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, BlockQueueMix,
                         testing::Values(Mix{64, 126976, 1 << 20, 1 << 20, 32, false, false},
                                         Mix{16, 126976, 1 << 20, 1 << 20, 200, false, true},
                                         Mix{10, 126976, 4096, 1 << 20, 64, true, false},
                                         Mix{512, 4096, 1 << 20, 1 << 20, 64, false, false},
                                         Mix{256, 4096, 8192, 1 << 20, 128, true, true},
                                         Mix{3, 4096, 4096, 12288, 300, true, true},
                                         Mix{1, 512, 4096, 512, 16, true, false}));

}  // namespace
}  // namespace rnbd::client
