// SPDX-License-Identifier: Apache-2.0
// How a device's queue ends: with its kernel, by force, or by being destroyed, at any moment.
#include <cerrno>
#include <vector>

#include <gtest/gtest.h>

#include "unit/queue_bench.h"

namespace rnbd::client {
namespace {

using test::FakeNbdKernel;
using test::pattern;
using test::QueueBench;
using Tag = FakeNbdKernel::Tag;

TEST(BlockQueueEnd, GarbageEndsItAndGivesEverythingBack) {
  QueueBench bench({});
  bench.kernel->read(0, 512);
  bench.kernel->write(0, pattern(512, 1));
  bench.settle();
  bench.kernel->put(pattern(100, 1));
  bench.settle();
  ASSERT_TRUE(bench.ended);
  EXPECT_EQ(bench.ended->code, EPROTO);
  EXPECT_EQ(bench.channel.held(), 2U) << "still under way";
  bench.run();
  EXPECT_EQ(bench.channel.held(), 0U);
  EXPECT_EQ(bench.kernel->unanswered(), 2U);
}

TEST(BlockQueueEnd, EndsWithTheKernelAtAnyMoment) {
  // The stream is cut after each of its bytes.
  constexpr std::size_t kTotal = 28 + 28 + 3 * 512 + 28 + 28;
  for (std::size_t cut = 0; cut <= kTotal; ++cut) {
    SCOPED_TRACE(cut);
    QueueBench bench({.channel = {.permits = 2, .max_io_size = 512}, .disk_bytes = 1 << 16});
    bench.kernel->send_step = cut;
    bench.kernel->read(0, 1024);
    bench.kernel->write(0, pattern(3 * 512, 1));
    bench.kernel->trim(0, 512);
    bench.kernel->disconnect();
    bench.kernel->pump();
    while (bench.worker.round()) {
    }
    if (cut % 2 == 0 && !bench.channel.pending.empty()) bench.channel.complete();
    bench.kernel->close();
    while (bench.worker.round() || !bench.channel.pending.empty()) {
      if (!bench.channel.pending.empty()) bench.channel.complete();
    }
    ASSERT_TRUE(bench.ended);
    EXPECT_EQ(bench.ended->code, EPIPE);
    EXPECT_EQ(bench.channel.held(), 0U);
    EXPECT_EQ(bench.queue->counters().in_flight, 0U);
  }
}

TEST(BlockQueueEnd, TellsOfADisconnectBeforeTheEnd) {
  QueueBench bench({});
  bench.kernel->read(0, 512);
  bench.kernel->disconnect();
  bench.settle();
  EXPECT_EQ(bench.disconnects, 1);
  EXPECT_FALSE(bench.ended);
  bench.kernel->close();
  while (bench.worker.round()) {
  }
  EXPECT_TRUE(bench.ended);
}

TEST(BlockQueueEnd, ClosingAnswersEverythingOnceAtAnyMoment) {
  constexpr std::size_t kTotal = 28 + 28 + 4 * 512 + 28 + 28 + 28 + 512;
  for (std::size_t cut = 0; cut <= kTotal; ++cut) {
    for (const std::uint32_t permits : {4U, 8U}) {
      for (const std::size_t completed : {0U, 1U, 3U}) {
        SCOPED_TRACE(testing::Message()
                     << cut << " bytes, " << permits << " permits, " << completed << " completed");
        QueueBench bench({.channel = {.permits = permits, .max_io_size = 512},
                          .disk_bytes = 1 << 16,
                          .discard_sectors = 8});
        auto& kernel = *bench.kernel;
        kernel.send_step = cut;
        kernel.read(0, 2048);
        kernel.write(0, pattern(4 * 512, 1));
        kernel.trim(0, 1 << 16);
        kernel.flush();
        kernel.write(8192, pattern(512, 1));
        kernel.pump();
        while (bench.worker.round()) {
        }
        for (std::size_t i = 0; i < completed && !bench.channel.pending.empty(); ++i) {
          bench.channel.complete();
        }
        bench.queue->close();
        kernel.send_step = kTotal;
        bench.settle();
        ASSERT_EQ(kernel.unanswered(), 0U);
        ASSERT_EQ(bench.channel.held(), bench.channel.pending.size());
        const std::size_t submitted = bench.channel.seen.size();
        const Tag late = kernel.write(0, pattern(4096, 1));
        const Tag later = kernel.read(0, 512);
        bench.run();
        EXPECT_EQ(kernel[late].error, static_cast<std::uint32_t>(EIO));
        EXPECT_EQ(kernel[later].error, static_cast<std::uint32_t>(EIO));
        EXPECT_EQ(bench.channel.seen.size(), submitted);
        EXPECT_EQ(bench.channel.held(), 0U);
        EXPECT_FALSE(bench.ended);
      }
    }
  }
}

TEST(BlockQueueEnd, AQueueThatWasClosedCanServeAgain) {
  QueueBench bench({.channel = {.permits = 8}});
  bench.disk = pattern(bench.disk.size(), 4);
  const Tag given_up = bench.kernel->write(0, pattern(4096, 1));
  bench.settle();
  bench.queue->close();
  bench.run();
  EXPECT_EQ((*bench.kernel)[given_up].error, static_cast<std::uint32_t>(EIO));
  EXPECT_EQ(bench.queue->in_flight(), 0U);
  bench.queue->reopen();
  const Tag write = bench.kernel->write(8192, pattern(4096, 2));
  const Tag read = bench.kernel->read(0, 512);
  bench.run();
  EXPECT_EQ((*bench.kernel)[write].error, 0U);
  EXPECT_EQ((*bench.kernel)[read].error, 0U);
  EXPECT_EQ(bench.channel.held(), 0U);
}

TEST(BlockQueueEnd, ClosingFinishesAReplyThatIsHalfSent) {
  QueueBench bench({.channel = {.permits = 8}, .socket_bytes = 4096});
  bench.disk = pattern(bench.disk.size(), 4);
  const Tag read = bench.kernel->read(0, 2 * 126976);
  const Tag other = bench.kernel->read(0, 512);
  bench.settle();
  bench.kernel->receive_step = 0;
  bench.channel.complete();
  bench.channel.complete();
  bench.settle();
  bench.queue->close();
  bench.kernel->receive_step = 1000;
  bench.run();
  EXPECT_EQ((*bench.kernel)[read].error, 0U);
  EXPECT_EQ((*bench.kernel)[read].data, bench.on_disk(0, 2 * 126976));
  EXPECT_EQ((*bench.kernel)[other].error, static_cast<std::uint32_t>(EIO));
  EXPECT_EQ(bench.channel.held(), 0U);
}

TEST(BlockQueueEnd, DyingGivesEverythingBack) {
  QueueBench bench({.channel = {.permits = 6, .max_io_size = 4096}, .socket_bytes = 4096});
  bench.kernel->receive_step = 0;
  for (std::uint64_t i = 0; i < 20; ++i) bench.kernel->read(i * 4096, 4096);
  bench.settle();
  for (int i = 0; i < 4; ++i) bench.channel.complete();
  bench.settle();
  bench.queue.reset();
  while (!bench.channel.pending.empty()) bench.channel.complete();
  EXPECT_EQ(bench.channel.held(), 0U);
}

}  // namespace
}  // namespace rnbd::client
