// SPDX-License-Identifier: Apache-2.0
// What `events` prints.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/events.h"

namespace rnbd::cli {
namespace {

using control::Json;
using testing::EndsWith;
using testing::MatchesRegex;

constexpr std::uint64_t kNoonAndABit = 1'795'262'400'123'000'000;

TEST(EventText, SaysWhenWhatAndWhy) {
  EXPECT_THAT(event_text({{"time_ns", kNoonAndABit},
                          {"event", "path"},
                          {"session", "blya"},
                          {"path", "ip:10.0.0.1"},
                          {"state", "lost"},
                          {"reason", "ETIMEDOUT: heartbeats went unanswered"}}),
              MatchesRegex("..:..:..\\.123  path     blya ip:10\\.0\\.0\\.1  lost: ETIMEDOUT: "
                           "heartbeats went unanswered\n"));
  EXPECT_THAT(event_text({{"time_ns", kNoonAndABit},
                          {"event", "device"},
                          {"device", "/dev/nbd0"},
                          {"session", "blya"},
                          {"mapping_path", "vol1"},
                          {"state", "open"},
                          {"size_bytes", 1U << 30}}),
              EndsWith("  device   /dev/nbd0 blya/vol1 1G  open\n"));
}

TEST(EventText, OfAServerNamesBothEnds) {
  EXPECT_THAT(event_text({{"event", "path"},
                          {"session", "blya"},
                          {"peer_address", "ip:10.0.0.2"},
                          {"local_address", "ip:10.0.0.1"},
                          {"state", "connected"}}),
              EndsWith("  path     blya ip:10.0.0.2 -> ip:10.0.0.1  connected\n"));
}

TEST(EventText, LetsNoNameDriveTheTerminal) {
  EXPECT_THAT(event_text({{"event", "session"}, {"session", "a\x1b[2J"}, {"state", "up"}}),
              EndsWith("  session  a\\x1b[2J  up\n"));
}

TEST(SnapshotText, HasALineForEachThing) {
  const Json snapshot = {
      {"time_ns", kNoonAndABit},
      {"devices",
       {{{"device", "/dev/nbd0"}, {"session", "blya"}, {"mapping_path", "v"}, {"state", "open"}}}},
      {"paths",
       {{{"session", "blya"},
         {"path", "ip:10.0.0.1"},
         {"state", "waiting"},
         {"last_error", "no"}}}}};
  EXPECT_THAT(snapshot_text(snapshot),
              MatchesRegex(".*  path     blya ip:10\\.0\\.0\\.1  waiting: no\n"
                           ".*  device   /dev/nbd0 blya/v 0B  open\n"));
}

TEST(SnapshotLine, IsOneLineThatSaysWhatItIs) {
  const std::string line = snapshot_line({{"schema_version", 1}, {"devices", Json::array()}});
  EXPECT_EQ(line, "{\"event\":\"snapshot\",\"schema_version\":1,\"devices\":[]}\n");
}

}  // namespace
}  // namespace rnbd::cli
