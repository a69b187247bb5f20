// SPDX-License-Identifier: Apache-2.0
// The client's control plane where several things are under way at once: what was left behind, what
// comes back, what is saved, and commands in between.
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "client/left_behind.h"
#include "common/control/stats_reset.h"
#include "common/limits.h"
#include "unit/client_bench.h"

namespace rnbd::client::bench {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr JournalShape kJournals{.requests = 8, .permits = 16};

control::Json set_args(const std::vector<std::string>& words, bool temporary = false) {
  return control::to_json(control::SetArgs{"blya", words, temporary});
}

class ClientPlane : public ClientBench {
 protected:
  /// A predecessor was killed while the kernel was being told of blya/vol1, and it was.
  void leave_an_attachment() {
    auto file = DeviceFile::create(1, kJournals, true);
    ASSERT_TRUE(file);
    DeviceRecord record;
    record.session.name = "blya";
    record.session.paths = {
        {.route = {.source = {},
                   .destination = {.text = fabric_.host("server").address(0), .port = 1234}},
         .uuid = {}}};
    record.parameters = {.queue_depth = kJournals.permits, .max_io_size = 4096};
    record.memory = "m1";
    record.request.session_name = "blya";
    record.request.device_path = "vol1";
    ASSERT_TRUE(file->write(record));
    ASSERT_TRUE(keeper_.keep("d3", file->fd()));
    nbd_.devices[0].backend = backend_of(record.request);
  }

  [[nodiscard]] std::vector<std::string> words(const std::string& device, bool persist = false) {
    return {"sessname=blya", path_word(), "device_path=" + device,
            persist ? "persist=yes" : "persist=no"};
  }
  /// Those that are remembered of the only mapping.
  std::vector<std::string> remembered() {
    settle();
    return mappings().at(0).at("words").get<std::vector<std::string>>();
  }
  /// What the device's memory file says of it.
  MapRequest kept(const std::string& name) {
    auto file = DeviceFile::open(UniqueFd(::dup(keeper_.kept.at(name).get())));
    return file->read()->request;
  }
  /// Of one block each, from the device's first socket.
  void read_blocks(int count) {
    PlayedSocket& socket = nbd_.devices.at(0).sockets.at(0);
    for (int i = 0; i < count; ++i) {
      const auto tag = socket.read(0, server::test::kBlock);
      ASSERT_TRUE(until([&] { return socket[tag].answered; }));
    }
  }
  control::Json stats() { return ask(control::kStatsVerb)->at("devices").at(0); }
};

TEST_F(ClientPlane, NothingIsAttachedBeforeWhatWasLeftIsGone) {
  leave_an_attachment();
  nbd_.hold_clearing = true;
  ASSERT_TRUE(plane_.resume());
  remember(one_mapping({path_word(), "device_path=vol1", "sessname=blya"}));
  pass(std::chrono::seconds(3));
  const auto other = begin_map(words("vol2"));
  settle();
  EXPECT_TRUE(list().at("devices").empty()) << "the kernel has but what was left";
  EXPECT_FALSE(other->has_value());
  EXPECT_TRUE(keeper_.kept.contains("d3")) << "whoever comes next has to clear it";
  nbd_.let_go();
  ASSERT_TRUE(wait(other));
  pass(std::chrono::seconds(3));
  ASSERT_EQ(list().at("devices").size(), 2U) << "what has come back stays";
  EXPECT_EQ(nbd_.devices.size(), 2U);
  EXPECT_FALSE(keeper_.kept.contains("d3"));
}

TEST_F(ClientPlane, WhoWaitsBehindALeftoverIsToldThatTheDaemonIsBeingReplaced) {
  leave_an_attachment();
  nbd_.hold_clearing = true;
  ASSERT_TRUE(plane_.resume());
  const auto waiting = begin_map(words("vol1"));
  settle();
  bool handed_over = false;
  plane_.hand_over([&] { handed_over = true; });
  EXPECT_EQ(wait(waiting).error().error.code, control::kBeingReplaced);
  EXPECT_TRUE(until([&] { return handed_over; }));
}

TEST_F(ClientPlane, UnmapOfAMappedDeviceDoesNotWaitForTheStateFile) {
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  reads_letters_ = false;  // the file lies on a disk that waits
  remember(one_mapping({path_word(), "device_path=vol1", "sessname=blya"}));
  ASSERT_TRUE(unmap("/dev/nbd0"));
  EXPECT_TRUE(list().at("devices").empty());
  const auto unknown =
      begin(control::kUnmapVerb, control::to_json(control::UnmapArgs{"blya/vol2"}));
  settle();
  EXPECT_FALSE(unknown->has_value()) << "it may be one that shall come back";
  reads_letters_ = true;
  EXPECT_EQ(wait(unknown).error().error.code, ENOENT);
  EXPECT_TRUE(until([&] { return mappings().empty(); })) << "it is not forgotten";
  pass(std::chrono::seconds(3));
  EXPECT_TRUE(list().at("devices").empty()) << "it has come back";
}

TEST_F(ClientPlane, AMappingThatIsMadeAnewBringsItsSessionWithIt) {
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  nbd_.hold_attaches = true;
  const auto second = begin_map({"sessname=blya", "device_path=vol2"});
  settle();
  ASSERT_TRUE(
      ask(control::kSetVerb, set_args({"on_no_path=fail-after:7", "mpath_policy=round-robin"})));
  ASSERT_TRUE(unmap("/dev/nbd0"));
  nbd_.next_attach_fails = EAGAIN;
  nbd_.let_go();
  const auto mapped = wait(second);
  ASSERT_TRUE(mapped) << describe(mapped.error().error);
  const control::Json device = list().at("devices").at(0);
  EXPECT_EQ(device.at("paths").at(0).at("policy"), "round-robin");
  const std::string name = std::ranges::find_if(keeper_.kept, [](const auto& one) {
                             return one.first.starts_with('d') && !one.first.contains('.');
                           })->first;
  EXPECT_EQ(kept(name).fail_after, std::chrono::seconds(7)) << "as it was set meanwhile";
}

TEST_F(ClientPlane, WhatASessionIsSetToComesBack) {
  remember({});
  ASSERT_EQ(map(words("vol1", true)), "/dev/nbd0");
  ASSERT_TRUE(ask(control::kSetVerb, set_args({"on_no_path=fail-after:60"})));
  EXPECT_THAT(remembered(), Contains("on_no_path=fail-after:60"));
  ASSERT_TRUE(ask(control::kSetVerb, set_args({"on_no_path=queue", "max_reconnect_attempts=3"})));
  EXPECT_THAT(remembered(), Contains("on_no_path=queue"));
  EXPECT_THAT(remembered(), Contains("max_reconnect_attempts=3"));
  EXPECT_THAT(remembered(), Not(Contains("on_no_path=fail-after:60")));
  ASSERT_TRUE(ask(control::kSetVerb, set_args({"on_no_path=fail-after:5"}, true)));
  EXPECT_THAT(remembered(), Contains("on_no_path=queue")) << "that was temporary";
  ASSERT_TRUE(ask(control::kPathVerb, control::to_json(control::PathArgs{"policy", "blya", "ml"})));
  EXPECT_THAT(remembered(), Contains("mpath_policy=ml"));
  EXPECT_EQ(list().at("devices").at(0).at("paths").at(0).at("policy"), "min-latency");
  const auto wrong =
      ask(control::kPathVerb, control::to_json(control::PathArgs{"policy", "blya", "best"}));
  EXPECT_EQ(wrong.error().error.code, EINVAL);
}

TEST_F(ClientPlane, WhatIsSetWhileTheStateFileIsReadComesBackToo) {
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  reads_letters_ = false;
  remember(one_mapping({path_word(), "device_path=vol1", "sessname=blya"}));
  ASSERT_TRUE(ask(control::kSetVerb, set_args({"on_no_path=fail-after:9"})));
  reads_letters_ = true;
  EXPECT_TRUE(until([&] {
    const auto words = mappings().at(0).at("words").get<std::vector<std::string>>();
    return std::ranges::find(words, "on_no_path=fail-after:9") != words.end();
  }));
}

TEST_F(ClientPlane, EachPathIsRememberedWithItsPort) {
  remember({});
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  const auto other = fabric_.host("server").listen({.text = "", .port = 4321}, server_);
  ASSERT_TRUE(other);
  ASSERT_TRUE(ask(
      control::kPathVerb,
      control::to_json(control::PathArgs{"add", "blya", fabric_.host("server").address(1), 4321})));
  ASSERT_EQ(map({"sessname=blya", "device_path=vol2", "persist=yes"}), "/dev/nbd1");
  EXPECT_THAT(remembered(), Contains("dest_port=1234,4321"));
}

TEST_F(ClientPlane, WhatWasRememberedIsNotLostByAnAttemptToReplaceIt) {
  remember(one_mapping({"device_path=vol1", "sessname=blya", "colour=blue"}));
  settle();
  std::filesystem::create_directory(state_path() + ".new");
  EXPECT_THAT(map(words("vol1", true)), HasSubstr("EISDIR"));
  EXPECT_TRUE(until([&] { return nbd_.devices.empty(); }));
  std::filesystem::remove(state_path() + ".new");
  ASSERT_EQ(map(words("vol2", true)), "/dev/nbd0");
  settle();
  EXPECT_EQ(mappings().size(), 2U);
  EXPECT_THAT(mappings().at(0).at("words").get<std::vector<std::string>>(),
              Contains("colour=blue"));
}

TEST_F(ClientPlane, WordsThatAreNotUnderstoodAreKeptAndToldOf) {
  const std::string content = one_mapping({"device_path=vol1", "sessname=blya", "colour=blue"});
  remember(content);
  pass(std::chrono::seconds(3));
  const control::Json waiting = list().at("waiting").at(0);
  EXPECT_EQ(waiting.at("mapping_path"), "vol1");
  EXPECT_GE(waiting.at("attempts"), 1);
  EXPECT_THAT(waiting.at("last_error").get<std::string>(), HasSubstr("unknown word 'colour=blue'"));
  EXPECT_THAT(waiting.at("last_error").get<std::string>(), HasSubstr("unmap blya/vol1"));
  EXPECT_THAT(remembered(), Contains("colour=blue"));
  ASSERT_EQ(map(words("vol1", true)), "/dev/nbd0") << "what is said anew takes its place";
  EXPECT_FALSE(list().contains("waiting"));
  EXPECT_THAT(remembered(), Not(Contains("colour=blue")));
}

TEST_F(ClientPlane, LooksAtOnceAtSoManyAddresses) {
  std::vector<std::string> six;
  for (std::size_t i = 0; i < kMaxPaths; ++i) six.push_back(fmt::format("path=ip:10.0.0.9{}", i));
  std::vector<Answer> looks;
  for (std::size_t i = 0; i < limits::kMaxDiscoveries / kMaxPaths; ++i) {
    looks.push_back(begin(control::kDiscoverVerb, control::map_args(six)));
  }
  const std::vector<std::string> one = {path_word()};
  const auto refused = begin(control::kDiscoverVerb, control::map_args(one));
  ASSERT_TRUE(refused->has_value());
  EXPECT_EQ((*refused)->error().exit, control::ExitCode::Busy);
  for (const Answer& look : looks) EXPECT_TRUE(wait(look));
  settle();
  EXPECT_TRUE(ask(control::kDiscoverVerb, control::map_args(one)));
}

TEST_F(ClientPlane, StatsAreResetWithoutLosingACount) {
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  read_blocks(3);
  EXPECT_FALSE(stats().contains("since_reset"));
  control::ResetArgs which{.devices = {{"blya", "vol1"}}};
  ASSERT_TRUE(ask(control::kResetVerb, control::to_json(which)));
  read_blocks(2);
  const control::Json counted = stats();
  EXPECT_EQ(counted.at("reads"), 5) << "metrics and scripts rely on it";
  EXPECT_EQ(counted.at("since_reset").at("reads"), 2);
  EXPECT_EQ(counted.at("since_reset").at("read_bytes"), 2 * server::test::kBlock);
  EXPECT_EQ(counted.at("since_reset").at("read_latency").at("count"), 2);
  EXPECT_EQ(counted.at("since_reset").at("stages").at("wire").at("read").at("count"), 2);
  std::optional<Observation> seen;
  plane_.observe([&](Observation observed) { seen = std::move(observed); });
  ASSERT_TRUE(until([&] { return seen.has_value(); }));
  EXPECT_EQ(seen->stats.at(0).reads, 5U);
  EXPECT_FALSE(list().at("devices").at(0).at("paths").at(0).contains("since_reset"));

  which.devices[0].name = "vol2";
  EXPECT_EQ(ask(control::kResetVerb, control::to_json(which)).error().error.code, ENOENT);
  ASSERT_TRUE(unmap("/dev/nbd0"));
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  read_blocks(1);
  EXPECT_FALSE(stats().contains("since_reset")) << "it is another mapping";
}

TEST_F(ClientPlane, PathsCountFromTheirResetOn) {
  ASSERT_EQ(map(words("vol1")), "/dev/nbd0");
  const std::string path = path_word().substr(5);
  const auto entry = [&] { return ask(control::kPathsVerb)->at("paths").at(0); };
  const auto reconnect = [&] {
    const auto was = entry().at("reconnects").get<std::uint64_t>();
    // The first attempt may find the path's last life at the server.
    const auto asked =
        begin(control::kPathVerb, control::to_json(control::PathArgs{"reconnect", "blya", path}));
    return until([&] { return asked->has_value() && entry().at("reconnects") == was + 1; });
  };
  ASSERT_TRUE(reconnect());
  const auto before = entry().at("reconnects").get<std::uint64_t>();
  ASSERT_GT(before, 0U);
  ASSERT_TRUE(
      ask(control::kResetVerb, control::to_json(control::ResetArgs{.paths = {{"blya", path}}})));
  EXPECT_EQ(entry().at("since_reset").at("reconnects"), 0);
  ASSERT_TRUE(reconnect());
  EXPECT_EQ(entry().at("since_reset").at("reconnects"), 1);
  EXPECT_EQ(entry().at("reconnects"), before + 1);
  ASSERT_TRUE(ask(control::kResetVerb, control::to_json(control::ResetArgs{.everything = true})));
  EXPECT_EQ(entry().at("since_reset").at("reconnects"), 0);
  EXPECT_TRUE(stats().contains("since_reset"));
  const control::ResetArgs unknown{.paths = {{"blya", "ip:10.0.0.77"}}};
  EXPECT_EQ(ask(control::kResetVerb, control::to_json(unknown)).error().error.code, ENOENT);
}

}  // namespace
}  // namespace rnbd::client::bench
