// SPDX-License-Identifier: Apache-2.0
// How a device's queue carries out requests: what it sends, how it cuts and joins, and what it does
// when permits, slots or room in the socket are short.
#include "client/block_queue.h"

#include <cerrno>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "unit/queue_bench.h"

namespace rnbd::client {
namespace {

using test::EdgeWorker;
using test::FakeNbdKernel;
using test::FakeRequestChannel;
using test::kZeroSectors;
using test::pattern;
using test::QueueBench;
using test::with;
using Tag = FakeNbdKernel::Tag;

TEST(BlockQueue, ReadsAndWrites) {
  QueueBench bench({});
  const auto data = pattern(8192, 1);
  const Tag write = bench.kernel->write(4096, data);
  bench.run();
  EXPECT_TRUE((*bench.kernel)[write].answered);
  EXPECT_EQ(bench.on_disk(4096, 8192), data);
  const Tag read = bench.kernel->read(4096, 8192);
  bench.run();
  EXPECT_EQ((*bench.kernel)[read].data, data);
  EXPECT_EQ(bench.channel.held(), 0U);
  const auto counters = bench.queue->counters();
  EXPECT_EQ(counters.reads, 1U);
  EXPECT_EQ(counters.writes, 1U);
  EXPECT_EQ(counters.read_bytes, 8192U);
  EXPECT_EQ(counters.written_bytes, 8192U);
  EXPECT_EQ(counters.errors, 0U);
  EXPECT_EQ(counters.in_flight, 0U);
}

TEST(BlockQueue, SendsWhatAKernelClientWouldSend) {
  QueueBench bench({});
  bench.kernel->read(512, 1024);
  bench.kernel->write(1024, pattern(512, 1), kNbdFua);
  bench.kernel->flush();
  bench.kernel->trim(4096, 8192);
  bench.kernel->write_zeroes(8192, 4096);
  bench.kernel->send(NbdCommand::Flush, 0, 8192, 512);  // of no place, whatever it says
  bench.run();
  ASSERT_EQ(bench.channel.seen.size(), 6U);
  const auto expect = [&](std::size_t i, std::uint32_t rw, std::uint64_t sector, std::uint32_t size,
                          std::uint32_t data, rtrs::Direction direction) {
    const auto& one = bench.channel.seen[i];
    SCOPED_TRACE(i);
    EXPECT_EQ(one.message.rw, rw);
    EXPECT_EQ(one.message.sector, sector);
    EXPECT_EQ(one.message.size, size);
    EXPECT_EQ(one.data_length, data);
    EXPECT_EQ(one.direction, direction);
    EXPECT_EQ(one.message.priority, 0);
  };
  expect(0, 0x100, 1, 1024, 1024, rtrs::Direction::Read);
  expect(1, 0x301, 2, 512, 512, rtrs::Direction::Write);
  expect(2, 0x302, 0, 0, 0, rtrs::Direction::Read);
  expect(3, 0x003, 8, 8192, 0, rtrs::Direction::Write);
  expect(4, 0x005, 16, 4096, 0, rtrs::Direction::Write);
  expect(5, 0x302, 0, 0, 0, rtrs::Direction::Read);
  EXPECT_EQ(bench.kernel->unanswered(), 0U);
}

TEST(BlockQueue, CutsAndJoins) {
  QueueBench bench(with({.permits = 16, .max_io_size = 4096}));
  const auto data = pattern(50'176, 3);
  bench.kernel->write(512, data);
  bench.run();
  EXPECT_EQ(bench.channel.seen.size(), 13U);
  EXPECT_EQ(bench.on_disk(512, data.size()), data);
  const Tag read = bench.kernel->read(512, 50'176);
  bench.run();
  EXPECT_EQ((*bench.kernel)[read].data, data);
}

TEST(BlockQueue, JoinsAReadWhosePiecesCameInAnyOrder) {
  QueueBench bench(with({.permits = 16, .max_io_size = 4096}));
  bench.disk = pattern(bench.disk.size(), 9);
  const Tag read = bench.kernel->read(0, 16 * 4096);
  bench.settle();
  ASSERT_EQ(bench.channel.pending.size(), 16U) << "all at once";
  std::mt19937 random(1);
  while (!bench.channel.pending.empty()) {
    EXPECT_FALSE((*bench.kernel)[read].answered);
    bench.channel.complete(random() % bench.channel.pending.size());
    bench.settle();
  }
  EXPECT_EQ((*bench.kernel)[read].data, bench.on_disk(0, 16 * 4096));
}

TEST(BlockQueue, AReadOfAllThereIsFits) {
  QueueBench bench({.channel = {.permits = 300}, .disk_bytes = 40 << 20});
  bench.disk = pattern(bench.disk.size(), 4);
  const Tag read = bench.kernel->read(1024, 32 << 20);
  bench.run();
  EXPECT_EQ((*bench.kernel)[read].data, bench.on_disk(1024, 32 << 20));
  const auto data = pattern(32 << 20, 5);
  bench.kernel->write(2048, data);
  bench.run();
  EXPECT_EQ(bench.on_disk(2048, 32 << 20), data);
  EXPECT_EQ(bench.channel.held(), 0U);
}

TEST(BlockQueue, AReadThatCanNeverFitFailsAndNothingElse) {
  QueueBench bench(with({.permits = 4, .max_io_size = 4096}));
  const Tag tall = bench.kernel->read(0, 5 * 4096);
  const Tag good = bench.kernel->read(0, 4 * 4096);
  bench.run();
  EXPECT_EQ((*bench.kernel)[tall].error, static_cast<std::uint32_t>(EIO));
  EXPECT_TRUE((*bench.kernel)[good].answered);
  EXPECT_EQ((*bench.kernel)[good].error, 0U);
}

TEST(BlockQueue, AWriteNeedsNoMoreThanOnePermit) {
  QueueBench bench(with({.permits = 1, .max_io_size = 4096}));
  const auto data = pattern(10 * 4096, 6);
  const Tag write = bench.kernel->write(0, data);
  bench.run();
  EXPECT_TRUE((*bench.kernel)[write].answered);
  EXPECT_EQ(bench.on_disk(0, data.size()), data);
  EXPECT_GT(bench.queue->counters().permit_waits, 5U);
}

TEST(BlockQueue, AWritesFragmentsAreUnderWayWhileTheRestArrives) {
  QueueBench bench(with({.permits = 8, .max_io_size = 4096}));
  bench.kernel->send_step = 28 + 2 * 4096 + 100;
  bench.kernel->write(0, pattern(4 * 4096, 6));
  bench.kernel->pump();
  while (bench.worker.round()) {
  }
  EXPECT_EQ(bench.channel.pending.size(), 2U);
  EXPECT_EQ(bench.channel.held(), 3U);
}

TEST(BlockQueue, StopsReadingWithoutPermitsAndGoesOnWithThem) {
  QueueBench bench(with({.permits = 4, .max_io_size = 4096}));
  for (std::uint64_t i = 0; i < 100; ++i) bench.kernel->write(i * 4096, pattern(4096, i));
  bench.settle();
  EXPECT_EQ(bench.channel.pending.size(), 4U);
  EXPECT_TRUE(bench.queue->counters().waiting);
  EXPECT_LE(bench.queue->counters().in_flight, 5U);
  bench.run();
  EXPECT_EQ(bench.kernel->unanswered(), 0U);
  EXPECT_FALSE(bench.queue->counters().waiting);
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(bench.on_disk(i * 4096, 4096), pattern(4096, i));
  }
}

TEST(BlockQueue, StopsReadingWithoutSlotsAndGoesOnWithThem) {
  QueueBench bench({.channel = {.permits = 64, .max_io_size = 4096}, .max_requests = 8});
  for (std::uint64_t i = 0; i < 100; ++i) bench.kernel->read(i * 4096, 4096);
  bench.settle();
  EXPECT_EQ(bench.queue->counters().in_flight, 8U);
  bench.run();
  EXPECT_EQ(bench.kernel->unanswered(), 0U);
}

TEST(BlockQueue, PermitsReturnOnlyWhenTheSocketHasTheData) {
  QueueBench bench({.channel = {.permits = 8}, .socket_bytes = 4096});
  bench.disk = pattern(bench.disk.size(), 4);
  const Tag read = bench.kernel->read(0, 8 * 126976);
  bench.settle();
  bench.kernel->receive_step = 0;
  while (!bench.channel.pending.empty()) bench.channel.complete();
  bench.settle();
  EXPECT_EQ(bench.channel.held(), 8U);
  EXPECT_GT(bench.worker.writable_waits, 0);
  bench.kernel->receive_step = 1000;
  bench.settle();
  EXPECT_EQ((*bench.kernel)[read].data, bench.on_disk(0, 8 * 126976));
  EXPECT_EQ(bench.channel.held(), 0U);
}

TEST(BlockQueue, TheFirstErrorOfAnyPieceFailsTheRequest) {
  for (const NbdCommand command :
       {NbdCommand::Read, NbdCommand::Write, NbdCommand::Trim, NbdCommand::WriteZeroes}) {
    SCOPED_TRACE(static_cast<int>(command));
    QueueBench bench(with({.permits = 16, .max_io_size = 65536}));
    bench.channel.fault = [&](const auto& one) { return one.message.sector != 0 ? ENOSPC : 0; };
    const auto data = command == NbdCommand::Write ? pattern(1 << 20, 1) : std::vector<std::byte>{};
    const Tag bad = bench.kernel->send(command, 0, 0, 1 << 20, data);
    const Tag good = bench.kernel->read(0, 512);
    bench.run();
    EXPECT_EQ((*bench.kernel)[bad].error, static_cast<std::uint32_t>(ENOSPC));
    EXPECT_EQ((*bench.kernel)[good].error, 0U);
    EXPECT_EQ(bench.kernel->unanswered(), 0U);
    EXPECT_EQ(bench.channel.held(), 0U);
    EXPECT_EQ(bench.queue->counters().errors, 1U);
  }
}

TEST(BlockQueue, ALongTrimKeepsAFewPiecesUnderWay) {
  QueueBench bench({});
  std::ranges::fill(bench.disk, std::byte{1});
  const Tag trim = bench.kernel->trim(512, 3 << 20);
  const Tag read = bench.kernel->read(0, 512);
  bench.settle();
  EXPECT_EQ(bench.channel.pending.size(), 5U) << "and lets others pass";
  bench.channel.complete(4);
  bench.settle();
  EXPECT_TRUE((*bench.kernel)[read].answered);
  bench.run();
  EXPECT_TRUE((*bench.kernel)[trim].answered);
  EXPECT_EQ((*bench.kernel)[trim].error, 0U);
  EXPECT_EQ(bench.on_disk(512, 3 << 20), std::vector<std::byte>(3 << 20));
  EXPECT_EQ(bench.on_disk(0, 512), std::vector<std::byte>(512, std::byte{1}));
  EXPECT_EQ(bench.on_disk(512 + (3 << 20), 512), std::vector<std::byte>(512, std::byte{1}));
}

TEST(BlockQueue, ZeroesTravelWhereTheServerCannotMakeThem) {
  for (const bool offered : {true, false}) {
    SCOPED_TRACE(offered);
    QueueBench bench({.channel = {.permits = 3, .max_io_size = 65536},
                      .zero_sectors = offered ? kZeroSectors : 0});
    std::ranges::fill(bench.disk, std::byte{1});
    bench.kernel->write_zeroes(4096, 1 << 20, offered ? kNbdNoHole : 0);
    bench.run();
    EXPECT_EQ(bench.kernel->unanswered(), 0U);
    EXPECT_EQ(bench.on_disk(4096, 1 << 20), std::vector<std::byte>(1 << 20));
    EXPECT_EQ(bench.on_disk(4096 + (1 << 20), 512), std::vector<std::byte>(512, std::byte{1}));
    for (const auto& one : bench.channel.seen) EXPECT_EQ(one.message.rw, 0x001U);
  }
}

TEST(BlockQueue, RefusesNonsenseWithoutLosingItsPlace) {
  QueueBench bench({});
  const std::uint64_t end = bench.disk.size();
  const auto data = pattern(70'000, 2);
  auto& kernel = *bench.kernel;
  const std::vector<Tag> bad = {
      kernel.read(end, 512),
      kernel.write(end - 512, data),
      kernel.write(1, pattern(512, 1)),
      kernel.send(NbdCommand::Write, 0, 0, 0),
      kernel.send(NbdCommand::Read, 0, 0, 0),
      kernel.send(static_cast<NbdCommand>(9), 0, 0, 512),
      kernel.send(NbdCommand::Read, 1 << 5, 0, 512),
      kernel.write(0, pattern(512, 1), 1 << 5),
      kernel.trim(end, 512),
      kernel.write_zeroes(0, 100),
  };
  const Tag good = kernel.write(0, pattern(512, 8));
  bench.run();
  for (const Tag tag : bad) {
    SCOPED_TRACE(tag);
    EXPECT_TRUE(kernel[tag].answered);
    EXPECT_EQ(kernel[tag].error, static_cast<std::uint32_t>(EINVAL));
  }
  EXPECT_EQ(kernel[good].error, 0U);
  EXPECT_EQ(bench.channel.seen.size(), 1U);
  EXPECT_EQ(bench.on_disk(0, 512), pattern(512, 8));
}

TEST(BlockQueue, RenewedRequestsCarryTheNewDeviceId) {
  QueueBench bench({});
  bench.kernel->read(512, 512);
  bench.settle();
  auto& pending = bench.channel.pending.front();
  bench.queue->set_device_id(99);
  pending.owner->on_request_renewed(pending.permit,
                                    std::as_writable_bytes(std::span(&pending.message, 1)));
  EXPECT_EQ(pending.message.device_id, 99U);
  EXPECT_EQ(pending.message.sector, 1U);
  bench.kernel->read(0, 512);
  bench.settle();
  EXPECT_EQ(bench.channel.pending.back().message.device_id, 99U);
}

TEST(BlockQueue, ANewSizeCountsForNewRequests) {
  QueueBench bench({});
  const std::uint64_t half = bench.disk.size() / 2;
  bench.queue->set_shape({.size_bytes = half});
  const Tag beyond = bench.kernel->read(half, 512);
  const Tag within = bench.kernel->read(half - 512, 512);
  bench.run();
  EXPECT_EQ((*bench.kernel)[beyond].error, static_cast<std::uint32_t>(EINVAL));
  EXPECT_EQ((*bench.kernel)[within].error, 0U);
}

TEST(BlockQueue, IsNotMadeForAServerThatCannotTakeABlock) {
  std::vector<std::byte> disk(4096);
  EdgeWorker worker;
  FakeRequestChannel channel(disk, {.permits = 1, .max_io_size = 2048}, worker);
  QueueBench unused({});
  for (const std::uint32_t block_size : {4096U, 0U, 100U}) {
    const BlockQueue::Config config{.shape = {.size_bytes = 4096, .block_size = block_size}};
    std::vector<std::byte> journal(Journal::bytes(config.journal_shape()));
    auto queue = BlockQueue::create(worker, channel, {}, journal, config, unused);
    ASSERT_FALSE(queue);
    EXPECT_EQ(queue.error().code, EINVAL);
  }
}

TEST(BlockQueue, DrainsWhatItHasTakenAndTakesNoMore) {
  QueueBench bench({});
  const Tag taken = bench.kernel->write(0, pattern(4096, 1));
  bench.settle();
  bool drained = false;
  bench.queue->drain([&] { drained = true; });
  const Tag late = bench.kernel->read(8192, 4096);
  bench.settle();
  EXPECT_FALSE(drained) << "the server has yet to answer";
  bench.run();
  EXPECT_TRUE(drained);
  EXPECT_TRUE((*bench.kernel)[taken].answered);
  EXPECT_FALSE((*bench.kernel)[late].answered) << "it waits in the socket for the next process";
  Journal journal(bench.journal, {.requests = 256, .permits = 16});
  const auto recovered = journal.recover();
  ASSERT_TRUE(recovered);
  EXPECT_TRUE(recovered->open.empty()) << "there is nothing to send again";
}

TEST(BlockQueue, ALargeReadIsNotStarvedBySmallOnes) {
  QueueBench bench(with({.permits = 4, .max_io_size = 4096}));
  // A neighbour on the same channel who takes each permit that is free whenever it is let to.
  const Tag large = bench.kernel->read(0, 4 * 4096);
  rtrs::PermitId taken = 0;
  struct Neighbour final : rtrs::PermitWaiter {
    void on_permits_available() override { ++told; }
    int told = 0;
  } neighbour;
  ASSERT_TRUE(bench.channel.acquire({&taken, 1}, neighbour));
  bench.settle();
  EXPECT_TRUE(bench.queue->counters().waiting);
  rtrs::PermitId second = 0;
  ASSERT_FALSE(bench.channel.acquire({&second, 1}, neighbour)) << "it queues up behind";
  bench.channel.release({&taken, 1});
  bench.settle();
  EXPECT_EQ(bench.channel.pending.size(), 4U);
  EXPECT_EQ(neighbour.told, 0);
  bench.run();
  EXPECT_TRUE((*bench.kernel)[large].answered);
  EXPECT_EQ(neighbour.told, 1);
}

}  // namespace
}  // namespace rnbd::client
