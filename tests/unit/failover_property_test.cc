// SPDX-License-Identifier: Apache-2.0
// Failover with fencing against a model disk, thousands of runs drawn by a seed: two paths are cut,
// healed and broken at random, packets come late, workers stall, the disk takes its time and ends
// its operations in any order. Whatever happens, a write that was acknowledged is never undone by
// an older one, and everything is answered in the end.
#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "unit/engine_bench.h"

namespace rnbd::rtrs::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kBlocks = 6;
constexpr std::uint32_t kDepth = 8;

/// Versions are counted for each block and fill it; the client has one write to a block at a time.
class Chaos {
 public:
  explicit Chaos(std::uint64_t seed)
      : random_(seed),
        bench_(seed + 1, seed % 2 == 0, kDepth, 2, static_cast<PathPolicy>(seed % 3),
               {.interval = milliseconds(seed % 4 == 0 ? 2000 : 100), .missed_max = 5}) {
    contexts_ = {&bench_.server.control.context(), &bench_.server.workers[0],
                 &bench_.server.workers[1],        &bench_.client_control.context(),
                 &bench_.one.workers[0],           &bench_.one.workers[1]};
    bench_.server.disk.hold = true;
    bench_.server.disk.on_execute = [this](std::uint32_t block, std::byte value) {
      check_execution(block, value);
    };
    bench_.one.on_done = [this](PermitId permit, int error) { on_done(permit, error); };
  }

  void go() {
    bench_.one.session.start();
    ASSERT_TRUE(bench_.until([&] { return bench_.one.ups > 0; }));
    for (int step = 0; step < 150 && !failed_; ++step) take_step();
    heal_all();
    issuing_ = false;
    for (int i = 0; i < 3000 && !writes_.empty() && !failed_; ++i) {
      bench_.server.disk.run_held();
      bench_.pass(milliseconds(10));
      bench_.idle();
    }
    EXPECT_TRUE(writes_.empty()) << writes_.size() << " writes were never answered";
    check_disk();
    bench_.server.disk.hold = false;
    bench_.server.disk.run_held();
    bench_.close(bench_.one);
    bench_.close(bench_.two);
    bench_.idle();
    // The server may not have been told of an attempt that was given up.
    for (int i = 0; i < 40 && !bench_.server.acceptor().sessions().empty(); ++i) {
      bench_.pass(seconds(1));
      bench_.idle();
    }
    EXPECT_TRUE(bench_.server.acceptor().sessions().empty());
    EXPECT_EQ(bench_.one.session.permits_in_use(), 0U);
  }

  [[nodiscard]] std::uint64_t failovers() const { return failovers_; }
  [[nodiscard]] std::uint64_t late_arrivals() const { return bench_.fabric.late_arrivals(); }

 private:
  std::uint32_t below(std::uint32_t end) { return static_cast<std::uint32_t>(random_() % end); }

  void take_step() {
    switch (below(12)) {
      case 0:
        bench_.cut(below(2));
        break;
      case 1:
      case 2:
        bench_.heal(below(2));
        break;
      case 3:
        bench_.break_line(below(2));
        break;
      case 4:
        run_out_of_retries(below(2));
        break;
      case 5:
        stalled_ = below(3) == 0 ? 6 : below(6);
        break;
      case 6:
      case 7:
        execute_some();
        break;
      default:
        issue();
        break;
    }
    // A worker that stalls lets the others go on.
    const std::uint32_t rounds = below(60);
    for (std::uint32_t round = 0; round < rounds; ++round) {
      bench_.fabric.step();
      for (std::uint32_t i = 0; i < contexts_.size(); ++i) {
        if (i != stalled_) contexts_[i]->run_once();
      }
    }
    for (sim::ManualContext* const context : contexts_) context->advance(milliseconds(below(120)));
    failovers_ = 0;
    for (const auto& path : bench_.one.session.paths()) failovers_ += path->stats().failovers;
  }
  void heal_all() {
    stalled_ = 6;
    bench_.heal(0);
    bench_.heal(1);
  }
  void run_out_of_retries(std::size_t line) {
    if (bench_.fabric.is_cut(bench_.near(line), bench_.far(line))) bench_.run_out_of_retries(line);
  }

  void issue() {
    if (!issuing_) return;
    const std::uint32_t block = below(kBlocks);
    if (busy_.contains(block)) return;
    SessionQueue& queue = bench_.one.session.queue(block % 2);
    PermitId permit = 0;
    if (!queue.acquire({&permit, 1}, bench_.one)) {
      queue.cancel_wait(bench_.one);
      return;
    }
    const std::uint8_t version = ++issued_[block];
    std::ranges::fill(queue.buffer(permit).first(kBlock), std::byte{version});
    DiskMessage message;
    message.block = block;
    writes_[permit] = block;
    busy_.insert(block);
    queue.submit(permit, Direction::Write, kBlock, bytes_of(message), bench_.one);
  }
  void on_done(PermitId permit, int error) {
    EXPECT_EQ(error, 0);
    const std::uint32_t block = writes_.at(permit);
    writes_.erase(permit);
    busy_.erase(block);
    acknowledged_[block] = issued_[block];
    bench_.one.release(block % 2, permit);
  }

  void execute_some() {
    auto& held = bench_.server.disk.held;
    for (std::uint32_t i = below(4); i > 0 && !held.empty(); --i) {
      const auto at = held.begin() + below(static_cast<std::uint32_t>(held.size()));
      ServerRequest* const request = *at;
      held.erase(at);
      bench_.server.disk.run(*request);
    }
  }
  /// One byte counts to 255, and no block is written more often than that.
  void check_execution(std::uint32_t block, std::byte value) {
    const auto version = std::to_integer<std::uint8_t>(value);
    if (version >= acknowledged_[block] && version <= issued_[block]) return;
    ADD_FAILURE() << "block " << block << ": version " << +version << " lands, though "
                  << +acknowledged_[block] << " was acknowledged";
    failed_ = true;
  }
  void check_disk() {
    for (const auto& [block, version] : acknowledged_) {
      const std::vector<std::byte> expected(kBlock, std::byte{version});
      EXPECT_EQ(bench_.server.disk.blocks[block], expected) << "block " << block;
    }
  }

  std::mt19937_64 random_;
  Bench bench_;
  std::array<sim::ManualContext*, 6> contexts_{};
  std::uint32_t stalled_ = 6;
  std::map<std::uint32_t, std::uint8_t> issued_;
  std::map<std::uint32_t, std::uint8_t> acknowledged_;
  std::map<PermitId, std::uint32_t> writes_;
  std::set<std::uint32_t> busy_;
  bool issuing_ = true;
  bool failed_ = false;
  std::uint64_t failovers_ = 0;
};

#ifdef RNBD_SANITIZED
constexpr std::uint64_t kRuns = 300;
#else
constexpr std::uint64_t kRuns = 2000;
#endif

TEST(Failover, NoStaleWriteEverLands) {
  std::uint64_t failovers = 0;
  std::uint64_t late = 0;
  for (std::uint64_t seed = 0; seed < kRuns; ++seed) {
    SCOPED_TRACE(seed);
    Chaos run(seed);
    run.go();
    failovers += run.failovers();
    late += run.late_arrivals();
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_GT(failovers, kRuns) << "a test that loses nothing tests nothing";
  EXPECT_GT(late, kRuns / 20);
}

}  // namespace
}  // namespace rnbd::rtrs::test
