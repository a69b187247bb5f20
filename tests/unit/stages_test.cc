// SPDX-License-Identifier: Apache-2.0
// Where a request's time goes, as both sides count it, and what the log says of those that took
// long.
#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/log.h"
#include "common/slow_io.h"
#include "sim/manual_control.h"
#include "unit/disk_bench.h"
#include "unit/engine_bench.h"
#include "unit/queue_bench.h"

namespace rnbd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::FakeRequestChannel;
using test::QueueBench;
using testing::HasSubstr;

constexpr TimePoint kBegin{std::chrono::hours(1)};

std::uint64_t ns(Duration time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

/// All pending requests were sent at `sent`, on path 3, and are answered now.
void answer_all(QueueBench& bench, TimePoint sent) {
  while (!bench.channel.pending.empty()) {
    bench.channel.trips[bench.channel.pending.front().permit] = {.sent = sent, .path = 3};
    bench.channel.complete();
    bench.settle();
  }
}

TEST(ClientStages, AreTheQueueAndTheWire) {
  QueueBench bench({});
  bench.worker.time = kBegin;
  bench.kernel->read(0, 4096);
  bench.kernel->flush();
  bench.settle();
  bench.worker.time = kBegin + milliseconds(10);
  answer_all(bench, kBegin + milliseconds(3));
  const auto counters = bench.queue->counters();
  EXPECT_EQ(counters.latencies.read.sum_ns, ns(milliseconds(10)));
  EXPECT_EQ(counters.queue_latencies.read.sum_ns, ns(milliseconds(3)));
  EXPECT_EQ(counters.wire_latencies.read.sum_ns, ns(milliseconds(7)));
  EXPECT_EQ(counters.wire_latencies.other.count(), 1U);
  EXPECT_EQ(counters.wire_latencies.write.count(), 0U);
  EXPECT_EQ(counters.wire_latencies.all().count(), 2U);
}

TEST(ClientStages, TheWireBeginsWithTheFirstPieceThatIsSent) {
  QueueBench bench(test::with({.permits = 4, .max_io_size = 4096}));
  bench.worker.time = kBegin;
  bench.kernel->read(0, 12288);
  bench.settle();
  ASSERT_EQ(bench.channel.pending.size(), 3U);
  for (const int which : {0, 1, 2}) {
    const auto permit = bench.channel.pending[static_cast<std::size_t>(which)].permit;
    bench.channel.trips[permit].sent = kBegin + milliseconds(which == 1 ? 2 : 5);
  }
  bench.worker.time = kBegin + milliseconds(20);
  bench.run();
  const auto counters = bench.queue->counters();
  EXPECT_EQ(counters.queue_latencies.read.sum_ns, ns(milliseconds(2)));
  EXPECT_EQ(counters.wire_latencies.read.sum_ns, ns(milliseconds(18)));
}

TEST(ClientStages, ARequestThatNobodyAnsweredHasNone) {
  QueueBench bench({.slow_io = milliseconds(1)});
  bench.worker.time = kBegin;
  bench.kernel->read(0, 4096);
  bench.settle();
  bench.worker.time = kBegin + seconds(1);
  bench.queue->close();
  bench.settle();
  const auto counters = bench.queue->counters();
  EXPECT_EQ(counters.latencies.read.count(), 1U);
  EXPECT_EQ(counters.queue_latencies.read.count(), 0U);
  EXPECT_EQ(counters.wire_latencies.read.count(), 0U);
  ASSERT_EQ(bench.slow.size(), 1U);
  EXPECT_FALSE(bench.slow[0].path);
  EXPECT_EQ(bench.slow[0].queued, seconds(1));
}

TEST(ClientStages, SlowRequestsAreToldOfAndNoOthers) {
  QueueBench bench({.slow_io = milliseconds(100)});
  bench.worker.time = kBegin;
  bench.kernel->write(8192, test::pattern(4096, 1));
  bench.kernel->read(0, 4096);
  bench.settle();
  bench.worker.time = kBegin + milliseconds(99);
  bench.channel.complete(1);
  bench.settle();
  EXPECT_TRUE(bench.slow.empty());
  bench.worker.time = kBegin + milliseconds(100);
  answer_all(bench, kBegin + milliseconds(40));
  ASSERT_EQ(bench.slow.size(), 1U);
  const client::SlowRequest& slow = bench.slow[0];
  EXPECT_EQ(slow.kind, client::IoKind::Write);
  EXPECT_EQ(slow.offset, 8192U);
  EXPECT_EQ(slow.length, 4096U);
  EXPECT_EQ(slow.taken, milliseconds(100));
  EXPECT_EQ(slow.queued, milliseconds(40));
  EXPECT_EQ(slow.path, 3);
}

TEST(ClientStages, ARequestIsOnTheWireWhenAPathHasTakenIt) {
  rtrs::test::Bench bench(1, false);
  ASSERT_TRUE(bench.bring_up(bench.one));
  bench.break_line(0);
  ASSERT_TRUE(bench.until([&] { return bench.one.downs == 1; }));
  const TimePoint submitted = bench.one.workers[0].now();
  rtrs::RequestTrip trip;
  bench.one.on_done = [&](rtrs::PermitId permit, int) {
    trip = bench.one.session.queue(0).trip(permit);
  };
  const auto permit = bench.one.submit(0, rtrs::Direction::Write, 1, std::byte{1});
  bench.until([&] { return bench.one.finished == 1; });
  EXPECT_EQ(bench.one.finished, 0U) << "there is no path";
  bench.pass(seconds(2));
  ASSERT_TRUE(bench.until([&] { return bench.one.finished == 1; }));
  EXPECT_EQ(trip.sent, submitted + seconds(2));
  EXPECT_EQ(trip.path, 0U);
  bench.one.release(0, permit);
  bench.close(bench.one);
  bench.close(bench.two);
  bench.idle();
}

TEST(ClientStages, ARequestThatIsSentAgainWasSentWhenItWasFirst) {
  rtrs::test::Bench bench(1, false, 16, 2);
  bench.one.session.start();
  const auto& paths = bench.one.session.paths();
  ASSERT_TRUE(bench.until([&] { return paths[0]->connected() && paths[1]->connected(); }));
  rtrs::RequestTrip trip;
  bench.one.on_done = [&](rtrs::PermitId permit, int) {
    trip = bench.one.session.queue(0).trip(permit);
  };
  const TimePoint sent = bench.one.workers[0].now();
  bench.server.disk.hold = true;
  const auto permit = bench.one.submit(0, rtrs::Direction::Write, 1, std::byte{1});
  ASSERT_TRUE(bench.until([&] { return bench.server.disk.held.size() == 1; }));
  const std::size_t first = bench.one.session.in_flight(*paths[0]) == 1 ? 0 : 1;
  bench.server.disk.hold = false;
  bench.pass(milliseconds(30));
  bench.break_line(first);
  bench.until([&] { return bench.one.session.in_flight(*paths[1 - first]) == 1; });
  bench.server.disk.run_held();
  ASSERT_TRUE(bench.until([&] { return bench.one.finished == 1; }));
  EXPECT_EQ(trip.sent, sent);
  EXPECT_EQ(trip.path, 1 - first);
  bench.one.release(0, permit);
  bench.close(bench.one);
  bench.close(bench.two);
  bench.idle();
}

class ServerStages : public testing::TestWithParam<bool> {};

TEST_P(ServerStages, AreTheServerAndTheDiskInIt) {
  log::start("info");
  sim::MemoryFabric network({.seed = 1});
  server::test::DiskBench bench(network, GetParam());
  bench.server.slow_io = milliseconds(5);
  ASSERT_TRUE(bench.good.bring_up("good-disk"));
  // Keys are revoked before the disk is asked.
  const milliseconds before_disk{GetParam() ? 3 : 0};
  const auto pass = [&bench](milliseconds time) {
    for (auto& worker : bench.server.workers) worker.advance(time);
    return true;
  };
  bench.server.disks.hold = true;
  bench.pollers.emplace_back([&, waited = false]() mutable {
    if (!bench.server.disks.held.empty()) {
      pass(milliseconds(7));
      bench.server.disks.let_go();
      return true;
    }
    if (waited) return false;
    waited = bench.server.acceptor.sessions().front()->chunks().busy() > 0;
    return waited && pass(before_disk);
  });
  testing::internal::CaptureStderr();
  EXPECT_TRUE(bench.good.works());
  bench.settle();
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_THAT(told, HasSubstr("slow I/O: device="));
  EXPECT_THAT(told,
              HasSubstr("good-disk session=good what=write offset=0 length=4096 total_ms=" +
                        in_ms(before_disk + milliseconds(7)) + " disk_ms=7.0 error=0 left_out=0"));
  EXPECT_EQ(std::ranges::count(told, '\n'), 1) << told;

  server::DiskLatencies sum;
  bool counted = false;
  bench.server.peers.at(0)->count([&](const std::vector<server::DeviceCount>& parts) {
    for (const server::DeviceCount& part : parts) {
      sum.server += part.latencies.server;
      sum.disk += part.latencies.disk;
    }
    counted = true;
  });
  ASSERT_TRUE(bench.until([&] { return counted; }));
  EXPECT_EQ(sum.disk.write.count(), 2U);
  EXPECT_EQ(sum.disk.write.sum_ns, ns(milliseconds(7)));
  EXPECT_EQ(sum.server.write.sum_ns, ns(before_disk + milliseconds(7)));
  EXPECT_EQ(sum.server.read.count(), 2U);
  bench.end();
}

INSTANTIATE_TEST_SUITE_P(Keys, ServerStages, testing::Bool(),
                         [](const auto& keys) { return keys.param ? "NewKeys" : "OneKey"; });

class SlowIo : public testing::Test {
 protected:
  void SetUp() override { log::start("info"); }

  /// What is logged in a second that begins with so many slow requests.
  std::string second(int slow) {
    testing::internal::CaptureStderr();
    for (int i = 0; i < slow; ++i) {
      if (log_.pass()) {
        control_.post(
            [this] { log_.tell({.session = "blya", .device = "/dev/nbd0"}, "what=read"); });
      }
      settle();
    }
    sim::advance(seconds(1), {&control_.context()});
    settle();
    return testing::internal::GetCapturedStderr();
  }
  void settle() {
    sim::run_until_idle({&control_.context()}, network_, [] { return false; });
  }

  sim::MemoryFabric network_{{.seed = 1}};
  sim::ManualControl control_;
  SlowIoLog log_{control_};
};

TEST_F(SlowIo, IsOneLineASecondAndHowManyMoreThereWere) {
  const std::string first = second(5);
  EXPECT_THAT(first, HasSubstr("slow I/O: device=/dev/nbd0 session=blya what=read left_out=0\n"));
  EXPECT_EQ(std::ranges::count(first, '\n'), 1) << first;
  const std::string next = second(3);
  EXPECT_THAT(next, HasSubstr("slow I/O: device=/dev/nbd0 session=blya what=read left_out=4\n"));
  EXPECT_EQ(std::ranges::count(next, '\n'), 1) << next;
}

TEST_F(SlowIo, WhatWasLeftOutIsToldWhenNothingFollows) {
  second(5);
  const std::string rest = second(0);
  EXPECT_THAT(rest, HasSubstr("slow I/O: device=/dev/nbd0 session=blya left_out=4\n"));
  EXPECT_EQ(second(0) + second(0) + second(0), "");
  EXPECT_THAT(second(1), HasSubstr("what=read left_out=0\n")) << "and it begins anew";
}

TEST(SlowIoLimit, IsOffAtZero) {
  EXPECT_EQ(slow_io_limit(0), Duration::max());
  EXPECT_EQ(slow_io_limit(250), milliseconds(250));
  EXPECT_EQ(in_ms(std::chrono::microseconds(1234567)), "1234.6");
}

}  // namespace
}  // namespace rnbd
