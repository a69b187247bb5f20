// SPDX-License-Identifier: Apache-2.0
// A queue that goes on where another process was killed, step by step; journal_kill_test.cc has the
// kills themselves.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "unit/queue_bench.h"

namespace rnbd::client {
namespace {

using test::FakeRequestChannel;
using test::pattern;
using test::QueueBench;

/// The queue's next process. The dead one is left as it stands.
class NextProcess final : public BlockQueueEvents {
 public:
  explicit NextProcess(QueueBench& bench) : bench_(bench) {
    static auto& dead = *new std::vector<std::unique_ptr<BlockQueue>>;
    const int socket = ::dup(bench.queue->wait_fd());
    dead.push_back(std::move(bench.queue));
    auto made = BlockQueue::create(worker_, bench.channel, UniqueFd(socket), bench.journal,
                                   bench.config, *this);
    EXPECT_TRUE(made) << made.error().message;
    queue_ = std::move(*made);
    queue_->start();
  }

  void on_disconnect_request(BlockQueue&) override {}
  void on_socket_ended(BlockQueue&, const Error& error) override { ADD_FAILURE() << error.message; }

  void run() {
    settle();
    while (!bench_.channel.pending.empty()) {
      bench_.channel.complete();
      settle();
    }
  }
  [[nodiscard]] const BlockQueue& queue() const { return *queue_; }

 private:
  void settle() {
    for (int quiet = 0; quiet < 2;) {
      const bool moved = bench_.kernel->pump();
      quiet = worker_.round() || moved ? 0 : quiet + 1;
    }
  }

  QueueBench& bench_;
  test::EdgeWorker worker_;
  std::unique_ptr<BlockQueue> queue_;
};

TEST(BlockResume, AHalfSentReplyIsSentToItsEndAndAFailureBehindItToo) {
  QueueBench bench({.channel = {}, .socket_bytes = 4096});
  constexpr std::uint32_t kLength = 300'000 / 512 * 512;
  bench.disk = pattern(bench.disk.size(), 3);
  bench.kernel->receive_step = 0;
  const auto large = bench.kernel->read(4096, kLength);
  const auto failing = bench.kernel->read(1 << 20, 512);
  bench.settle();
  bench.channel.fault = [](const FakeRequestChannel::Pending& one) {
    return one.message.sector == (1 << 20) / 512 ? ENODATA : 0;
  };
  while (!bench.channel.pending.empty()) bench.channel.complete();
  bench.settle();
  ASSERT_EQ(bench.queue->in_flight(), 2U) << "the socket is full";

  NextProcess next(bench);
  bench.kernel->receive_step = SIZE_MAX;
  next.run();
  EXPECT_TRUE((*bench.kernel)[large].answered);
  EXPECT_EQ((*bench.kernel)[large].data, bench.on_disk(4096, kLength));
  EXPECT_TRUE((*bench.kernel)[failing].answered);
  EXPECT_NE((*bench.kernel)[failing].error, 0U);
  EXPECT_EQ(bench.channel.held(), 0U);
  EXPECT_EQ(next.queue().in_flight(), 0U);
}

TEST(BlockResume, AWriteThatTheDeviceCannotTakeAnyMoreIsReceivedAndRefused) {
  QueueBench bench({});
  const std::uint64_t end = bench.disk.size();
  constexpr std::uint32_t kLength = 65536;
  const auto write = bench.kernel->write(end - kLength, pattern(kLength, 1));
  bench.kernel->send_step = 10'000;
  bench.kernel->pump();
  for (int i = 0; i < 5; ++i) bench.worker.round();
  ASSERT_EQ(bench.queue->in_flight(), 1U);
  ASSERT_EQ(bench.channel.held(), 1U) << "it is being received";

  bench.config.shape.size_bytes = end / 2;
  NextProcess next(bench);
  bench.kernel->send_step = SIZE_MAX;
  const auto good = bench.kernel->write(0, pattern(512, 2));
  next.run();
  EXPECT_TRUE((*bench.kernel)[write].answered);
  EXPECT_NE((*bench.kernel)[write].error, 0U);
  EXPECT_EQ((*bench.kernel)[good].error, 0U) << "the stream is where it should be";
  EXPECT_TRUE((*bench.kernel)[good].answered);
  EXPECT_EQ(bench.channel.held(), 0U);
}

TEST(BlockQueueCounters, OfQueuesAddUp) {
  BlockQueueCounters sum{.reads = 1, .writes = 2, .read_bytes = 512, .in_flight = 3};
  sum += {.reads = 10,
          .flushes = 5,
          .written_bytes = 4096,
          .errors = 1,
          .in_flight = 1,
          .waiting = true};
  EXPECT_EQ(sum.reads, 11U);
  EXPECT_EQ(sum.writes, 2U);
  EXPECT_EQ(sum.flushes, 5U);
  EXPECT_EQ(sum.read_bytes, 512U);
  EXPECT_EQ(sum.written_bytes, 4096U);
  EXPECT_EQ(sum.errors, 1U);
  EXPECT_EQ(sum.in_flight, 4U);
  EXPECT_TRUE(sum.waiting);
}

}  // namespace
}  // namespace rnbd::client
