// SPDX-License-Identifier: Apache-2.0
// Latencies as they are counted, and the tables of stats and top.
#include "cli/stats.h"

#include <chrono>

#include <gtest/gtest.h>

#include "common/control/stats_reset.h"
#include "common/control/verbs.h"
#include "common/latency.h"

namespace rnbd::cli {
namespace {

using control::DeviceStats;
using control::Json;
using std::chrono::microseconds;
using std::chrono::seconds;

TEST(Latency, IsCountedInPowersOfTwoOfAMicrosecond) {
  LatencyHistogram latency;
  latency.add(std::chrono::nanoseconds(999));
  latency.add(microseconds(1));
  latency.add(microseconds(127));
  latency.add(microseconds(128));
  latency.add(seconds(3600));
  latency.add(-seconds(1));
  EXPECT_EQ(latency.buckets[0], 2U) << "less than 1 us, and what a clock makes of nothing";
  EXPECT_EQ(latency.buckets[1], 1U);
  EXPECT_EQ(latency.buckets[7], 1U) << "less than 128 us";
  EXPECT_EQ(latency.buckets[8], 1U);
  EXPECT_EQ(latency.buckets.back(), 1U);
  EXPECT_EQ(latency.count(), 6U);
  EXPECT_EQ(latency.sum_ns, 999U + 256'000U + 3'600'000'000'000U);
  LatencyHistogram more;
  more.add(microseconds(1));
  latency += more;
  EXPECT_EQ(latency.buckets[1], 2U);
}

DeviceStats device(const std::string& node, std::uint64_t reads, std::uint64_t writes) {
  DeviceStats stats{.device = node,
                    .session = "blya",
                    .mapping_path = "vol1",
                    .reads = reads,
                    .read_bytes = reads * 4096,
                    .writes = writes,
                    .written_bytes = writes * 4096,
                    .flushes = 1,
                    .discards = 2,
                    .errors = 0,
                    .in_flight = 3};
  for (std::uint64_t i = 0; i < reads; ++i) stats.latencies.read.add(microseconds(100));
  return stats;
}

Json list(const std::vector<DeviceStats>& devices) {
  Json entries = Json::array();
  for (const DeviceStats& one : devices) entries.push_back(control::to_json(one));
  return control::list_result(std::move(entries));
}

TEST(Stats, AreATable) {
  DeviceStats slow = device("/dev/nbd1", 98, 0);
  slow.latencies.read.add(seconds(2));
  slow.latencies.read.add(seconds(2));
  EXPECT_EQ(*stats_table(list({device("/dev/nbd0", 10, 5), slow}), {}),
            "DEVICE     SESSION  MAPPING PATH  READS  READ  R P50  R P99  WRITES  WRITTEN  W P50  "
            "W P99  OTHERS  ERRORS\n"
            "/dev/nbd0  blya     vol1             10   40K  128us  128us       5      20K      -  "
            "    -       3       0\n"
            "/dev/nbd1  blya     vol1             98  392K  128us   2.1s       0       0B      -  "
            "    -       3       0\n");
}

TEST(Stats, HaveAColumnForEachStage) {
  DeviceStats one = device("/dev/nbd0", 1, 0);
  one.stages = {{"queue", {}}, {"wire", {}}};
  one.stages[1].latencies.read.add(microseconds(100));
  one.stages[1].latencies.other.add(microseconds(1000));
  const std::string table = *stats_table(list({one, device("/dev/nbd1", 1, 0)}), {});
  EXPECT_EQ(table,
            "DEVICE     SESSION  MAPPING PATH  READS  READ  R P50  R P99  WRITES  WRITTEN  W P50  "
            "W P99  OTHERS  QUEUE P99  WIRE P99  ERRORS\n"
            "/dev/nbd0  blya     vol1              1    4K  128us  128us       0       0B      -  "
            "    -       3          -     1.0ms       0\n"
            "/dev/nbd1  blya     vol1              1    4K  128us  128us       0       0B      -  "
            "    -       3          -         -       0\n");
}

TEST(Stats, OfWhatWasResetAreThoseSinceThen) {
  Json result = list({device("/dev/nbd0", 10, 5), device("/dev/nbd1", 1, 0)});
  Json since = Json::parse(list({device("", 2, 0)}).dump()).at("devices").at(0);
  since["seconds"] = 300U;
  result["devices"][0]["since_reset"] = since;
  EXPECT_EQ(
      *stats_table(result, {.headers = true, .columns = "device,reads,read,r_p50,writes,reset"}),
      "DEVICE     READS  READ  R P50  WRITES  RESET\n"
      "/dev/nbd0      2    8K  128us       0     5m\n"
      "/dev/nbd1      1    4K  128us       0      -\n");
  EXPECT_TRUE(stats_table(result, {})->contains("RESET"));
}

TEST(Stats, OfADeviceThatCountsNoMoreAreNotBelowZero) {
  control::DeviceStats device;
  device.session = "blya";
  device.mapping_path = "vol1";
  device.life = "1";
  device.reads = 1000;
  control::StatsMarks marks;
  ASSERT_TRUE(marks.set({device}, {.everything = true}, TimePoint()));
  device.reads = 0;  // it is being unmapped
  const control::Json list = marks.list({device}, TimePoint());
  EXPECT_EQ(list.at(0).at("since_reset").at("reads"), 0);
}

TEST(Top, DoesNotNoticeAReset) {
  const Json before = list({device("/dev/nbd0", 10, 5)});
  Json now = list({device("/dev/nbd0", 20, 5)});
  now["devices"][0]["since_reset"] = list({device("", 1, 0)}).at("devices").at(0);
  EXPECT_EQ(*top_table(before, now, 1.0, {.headers = false}),
            "/dev/nbd0  blya  vol1  10  40K  100us  0  0B  -  3  0\n");
}

TEST(Top, HasTheMeanOfEachStage) {
  DeviceStats before = device("/dev/nbd0", 1, 0);
  before.stages = {{"server", {}}, {"disk", {}}};
  before.stages[0].latencies.read.add(seconds(1));
  DeviceStats now = before;
  now.stages[0].latencies.read.add(microseconds(300));
  now.stages[0].latencies.write.add(microseconds(100));
  now.stages[1].latencies.write.add(microseconds(50));
  EXPECT_EQ(*top_table(list({before}), list({now}), 1.0, {}),
            "DEVICE     SESSION  MAPPING PATH  READS/S  READ/S  R LAT  WRITES/S  WRITTEN/S  W LAT  "
            "SERVER  DISK  IN FLIGHT  ERRORS/S\n"
            "/dev/nbd0  blya     vol1                0      0B      -         0         0B      -  "
            " 200us  50us          3         0\n");
}

TEST(Top, ShowsWhatWasDoneMeanwhileBusiestFirst) {
  const Json before = list({device("/dev/nbd0", 10, 5), device("/dev/nbd1", 0, 0)});
  const Json now = list({device("/dev/nbd0", 20, 5), device("/dev/nbd1", 100, 50)});
  EXPECT_EQ(*top_table(before, now, 2.0, {}),
            "DEVICE     SESSION  MAPPING PATH  READS/S  READ/S  R LAT  WRITES/S  WRITTEN/S  W LAT  "
            "IN FLIGHT  ERRORS/S\n"
            "/dev/nbd1  blya     vol1               50    200K  100us        25       100K      -  "
            "        3         0\n"
            "/dev/nbd0  blya     vol1                5     20K  100us         0         0B      -  "
            "        3         0\n");
}

TEST(Top, CountsFromZeroBehindAnUpgrade) {
  const Json before = list({device("/dev/nbd0", 1000, 0)});
  const Json now = list({device("/dev/nbd0", 10, 0)});
  EXPECT_EQ(*top_table(before, now, 1.0, {.headers = false}),
            "/dev/nbd0  blya  vol1  10  40K  100us  0  0B  -  3  0\n");
}

TEST(Stats, ThatMakeNoSenseHarmNobody) {
  const Json odd = Json::parse(
      R"({"devices":[{"device":1,"reads":-1,"read_latency":{"count":5,"buckets":[null,"x"]}}]})");
  EXPECT_EQ(*top_table(odd, odd, 1.0, {.headers = false}), "-  -  -  0  0B  -  0  0B  -  0  0\n");
  EXPECT_NE(*stats_table(odd, {.headers = false}), "");
}

TEST(HumanTime, HasAUnit) {
  EXPECT_EQ(human_time(0), "");
  EXPECT_EQ(human_time(1), "1us");
  EXPECT_EQ(human_time(850'000), "850us");
  EXPECT_EQ(human_time(12'300'000), "12.3ms");
  EXPECT_EQ(human_time(4'100'000'000), "4.1s");
}

}  // namespace
}  // namespace rnbd::cli
