// SPDX-License-Identifier: Apache-2.0
// A device's queue between a kernel that checks every reply and a server made of memory.
#include "client/block_queue.h"

#include <cerrno>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "unit/edge_worker.h"
#include "unit/fake_nbd_kernel.h"
#include "unit/fake_request_channel.h"

namespace rnbd::client {
namespace {

using test::EdgeWorker;
using test::FakeNbdKernel;
using test::FakeRequestChannel;
using Tag = FakeNbdKernel::Tag;

std::vector<std::byte> pattern(std::size_t length, std::uint64_t seed) {
  std::vector<std::byte> bytes(length);
  std::uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  for (std::size_t i = 0; i < length; ++i) {
    if (i % 8 == 0) state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    bytes[i] = static_cast<std::byte>(state >> (8 * (i % 8)));
  }
  return bytes;
}

constexpr std::uint32_t kDiscardSectors = 256;
constexpr std::uint32_t kZeroSectors = 128;

struct Bench final : BlockQueueEvents {
  struct Settings {
    FakeRequestChannel::Settings channel;
    std::size_t disk_bytes = 4 << 20;
    int socket_bytes = 1 << 20;
    std::uint32_t max_requests = 256;
    std::uint32_t zero_sectors = kZeroSectors;
    std::uint32_t discard_sectors = kDiscardSectors;
  };

  explicit Bench(const Settings& settings)
      : disk(settings.disk_bytes), channel(disk, settings.channel, worker) {
    auto pair = make_nbd_socket_pair(settings.socket_bytes);
    EXPECT_TRUE(pair);
    kernel.emplace(std::move(pair->kernels));
    const BlockQueue::Config config{.shape = {.size_bytes = settings.disk_bytes,
                                              .block_size = 512,
                                              .max_discard_sectors = settings.discard_sectors,
                                              .discard_granularity = 4096,
                                              .max_write_zeroes_sectors = settings.zero_sectors},
                                    .device_id = settings.channel.device_id,
                                    .permit_ids = settings.channel.permits,
                                    .max_requests = settings.max_requests};
    auto made = BlockQueue::create(worker, channel, std::move(pair->ours), config, *this);
    EXPECT_TRUE(made);
    queue = std::move(*made);
    queue->start();
  }

  void on_disconnect_request(BlockQueue&) override { ++disconnects; }
  void on_socket_ended(BlockQueue&, const Error& error) override {
    EXPECT_FALSE(ended) << "told twice";
    ended = error;
  }

  /// Moves bytes until neither side has anything to do; the server does nothing meanwhile.
  void settle() {
    for (int quiet = 0; quiet < 2;) {
      const bool moved = kernel->pump();
      quiet = worker.round() || moved ? 0 : quiet + 1;
    }
  }

  /// The same with a server that answers at once, first come first served.
  void run() {
    settle();
    while (!channel.pending.empty()) {
      channel.complete();
      settle();
    }
  }

  std::vector<std::byte> on_disk(std::uint64_t offset, std::size_t length) const {
    const auto start = disk.begin() + static_cast<std::ptrdiff_t>(offset);
    return {start, start + static_cast<std::ptrdiff_t>(length)};
  }

  EdgeWorker worker;
  std::vector<std::byte> disk;
  FakeRequestChannel channel;
  std::optional<FakeNbdKernel> kernel;
  std::unique_ptr<BlockQueue> queue;
  int disconnects = 0;
  std::optional<Error> ended;
};

Bench::Settings with(FakeRequestChannel::Settings channel) { return {.channel = channel}; }

TEST(BlockQueue, ReadsAndWrites) {
  Bench bench({});
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
  Bench bench({});
  bench.kernel->read(512, 1024);
  bench.kernel->write(1024, pattern(512, 1), kNbdFua);
  bench.kernel->flush();
  bench.kernel->trim(4096, 8192);
  bench.kernel->write_zeroes(8192, 4096);
  bench.run();
  ASSERT_EQ(bench.channel.seen.size(), 5U);
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
  EXPECT_EQ(bench.kernel->unanswered(), 0U);
}

TEST(BlockQueue, CutsAndJoins) {
  Bench bench(with({.permits = 16, .max_io_size = 4096}));
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
  Bench bench(with({.permits = 16, .max_io_size = 4096}));
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
  Bench bench({.channel = {.permits = 300}, .disk_bytes = 40 << 20});
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
  Bench bench(with({.permits = 4, .max_io_size = 4096}));
  const Tag tall = bench.kernel->read(0, 5 * 4096);
  const Tag good = bench.kernel->read(0, 4 * 4096);
  bench.run();
  EXPECT_EQ((*bench.kernel)[tall].error, static_cast<std::uint32_t>(EIO));
  EXPECT_TRUE((*bench.kernel)[good].answered);
  EXPECT_EQ((*bench.kernel)[good].error, 0U);
}

TEST(BlockQueue, AWriteNeedsNoMoreThanOnePermit) {
  Bench bench(with({.permits = 1, .max_io_size = 4096}));
  const auto data = pattern(10 * 4096, 6);
  const Tag write = bench.kernel->write(0, data);
  bench.run();
  EXPECT_TRUE((*bench.kernel)[write].answered);
  EXPECT_EQ(bench.on_disk(0, data.size()), data);
  EXPECT_GT(bench.queue->counters().permit_waits, 5U);
}

TEST(BlockQueue, AWritesFragmentsAreUnderWayWhileTheRestArrives) {
  Bench bench(with({.permits = 8, .max_io_size = 4096}));
  bench.kernel->send_step = 28 + 2 * 4096 + 100;
  bench.kernel->write(0, pattern(4 * 4096, 6));
  bench.kernel->pump();
  while (bench.worker.round()) {
  }
  EXPECT_EQ(bench.channel.pending.size(), 2U);
  EXPECT_EQ(bench.channel.held(), 3U);
}

TEST(BlockQueue, StopsReadingWithoutPermitsAndGoesOnWithThem) {
  Bench bench(with({.permits = 4, .max_io_size = 4096}));
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
  Bench bench({.channel = {.permits = 64, .max_io_size = 4096}, .max_requests = 8});
  for (std::uint64_t i = 0; i < 100; ++i) bench.kernel->read(i * 4096, 4096);
  bench.settle();
  EXPECT_EQ(bench.queue->counters().in_flight, 8U);
  bench.run();
  EXPECT_EQ(bench.kernel->unanswered(), 0U);
}

TEST(BlockQueue, PermitsReturnOnlyWhenTheSocketHasTheData) {
  Bench bench({.channel = {.permits = 8}, .socket_bytes = 4096});
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
    Bench bench(with({.permits = 16, .max_io_size = 65536}));
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
  Bench bench({});
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
    Bench bench({.channel = {.permits = 3, .max_io_size = 65536},
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
  Bench bench({});
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

TEST(BlockQueue, GarbageEndsItAndGivesEverythingBack) {
  Bench bench({});
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

TEST(BlockQueue, EndsWithTheKernelAtAnyMoment) {
  // The stream is cut after each of its bytes.
  constexpr std::size_t kTotal = 28 + 28 + 3 * 512 + 28 + 28;
  for (std::size_t cut = 0; cut <= kTotal; ++cut) {
    SCOPED_TRACE(cut);
    Bench bench({.channel = {.permits = 2, .max_io_size = 512}, .disk_bytes = 1 << 16});
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

TEST(BlockQueue, TellsOfADisconnectBeforeTheEnd) {
  Bench bench({});
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

TEST(BlockQueue, ClosingAnswersEverythingOnceAtAnyMoment) {
  constexpr std::size_t kTotal = 28 + 28 + 4 * 512 + 28 + 28 + 28 + 512;
  for (std::size_t cut = 0; cut <= kTotal; ++cut) {
    for (const std::uint32_t permits : {4U, 8U}) {
      for (const std::size_t completed : {0U, 1U, 3U}) {
        SCOPED_TRACE(testing::Message()
                     << cut << " bytes, " << permits << " permits, " << completed << " completed");
        Bench bench({.channel = {.permits = permits, .max_io_size = 512},
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

TEST(BlockQueue, ClosingFinishesAReplyThatIsHalfSent) {
  Bench bench({.channel = {.permits = 8}, .socket_bytes = 4096});
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

TEST(BlockQueue, DyingGivesEverythingBack) {
  Bench bench({.channel = {.permits = 6, .max_io_size = 4096}, .socket_bytes = 4096});
  bench.kernel->receive_step = 0;
  for (std::uint64_t i = 0; i < 20; ++i) bench.kernel->read(i * 4096, 4096);
  bench.settle();
  for (int i = 0; i < 4; ++i) bench.channel.complete();
  bench.settle();
  bench.queue.reset();
  while (!bench.channel.pending.empty()) bench.channel.complete();
  EXPECT_EQ(bench.channel.held(), 0U);
}

TEST(BlockQueue, RenewedRequestsCarryTheNewDeviceId) {
  Bench bench({});
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
  Bench bench({});
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
  Bench unused({});
  for (const std::uint32_t block_size : {4096U, 0U, 100U}) {
    auto queue = BlockQueue::create(
        worker, channel, {}, {.shape = {.size_bytes = 4096, .block_size = block_size}}, unused);
    ASSERT_FALSE(queue);
    EXPECT_EQ(queue.error().code, EINVAL);
  }
}

TEST(BlockQueue, ALargeReadIsNotStarvedBySmallOnes) {
  Bench bench(with({.permits = 4, .max_io_size = 4096}));
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

// --- Anything, in any order
// -----------------------------------------------------------------------

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
  Bench bench_;
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
