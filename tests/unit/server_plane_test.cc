// SPDX-License-Identifier: Apache-2.0
// What an administrator does to a server whose disks are in use, as commands say it and as a client
// finds it: exports by name, devices closed by force, draining.
#include <cerrno>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/server_bench.h"

namespace rnbd::server::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class ServerPlane : public testing::Test {
 protected:
  /// From now on it remembers what is added.
  void remember() {
    state_ = std::make_unique<control::StateFile>(bench_.inbox, bench_.directory.path().string(),
                                                  "state.json");
    bench_.plane.remember_in(*state_);
  }
  void make_saving_fail() { std::filesystem::create_directory(state_path_ + ".new"); }
  std::string remembered() {
    std::ifstream file(state_path_);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  bool is_exported(const std::string& name) {
    return bench_.plane.exports().named().find(name) != nullptr;
  }

  ServerBench bench_;
  std::string state_path_ = bench_.directory.path() / "state.json";
  std::unique_ptr<control::StateFile> state_;
};

TEST_F(ServerPlane, ANameThatIsOpenIsNotGivenToAnotherDisk) {
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("disk"), 0);
  EXPECT_EQ(bench_.add("disk", "other", true), EBUSY);
  bench_.lose_client();
  EXPECT_EQ(bench_.add("disk", "other", true), EBUSY) << "its client comes back";
  EXPECT_EQ(bench_.add("disk", "disk", true), 0) << "it is the same disk";
  EXPECT_EQ(bench_.code_of(bench_.begin_remove("disk", false)), EBUSY);
}

TEST_F(ServerPlane, ANameThatWasTakenAwayByForceIsNotGivenToAnotherDisk) {
  ASSERT_EQ(bench_.add("vol", "disk", true), 0);
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("vol"), 0);
  EXPECT_EQ(bench_.code_of(bench_.begin_remove("vol", false)), EBUSY);
  EXPECT_EQ(bench_.code_of(bench_.begin_remove("vol", true)), 0);
  EXPECT_EQ(bench_.add("vol", "other", true), EBUSY);
  EXPECT_EQ(bench_.open("vol"), ENOENT);
  EXPECT_EQ(bench_.add("vol", "disk", true), 0);
  EXPECT_EQ(bench_.open("vol"), 0);
}

TEST_F(ServerPlane, ForceDoesNotLeadAClientToWhatLiesBelow) {
  ASSERT_EQ(bench_.add("disk", "other", true), 0);
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("disk"), 0);
  EXPECT_EQ(bench_.code_of(bench_.begin_remove("disk", true)), EBUSY);
  EXPECT_TRUE(is_exported("disk"));
}

TEST_F(ServerPlane, AnExportIsForgottenBeforeItsDiskIsIdle) {
  remember();
  ASSERT_EQ(bench_.add("vol", "disk"), 0);
  EXPECT_THAT(remembered(), HasSubstr("\"vol\""));
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("vol"), 0);
  bench_.disks.hold = true;
  wire::Io io;
  io.header = wire::header(wire::MessageType::Io);
  io.rw = std::to_underlying(wire::Operation::Write);
  io.size = kBlock;
  bench_.client.post(
      rtrs::test::RawClient::write_request(rtrs::test::join(io), rtrs::test::filled(kBlock, 0x11)));
  ASSERT_TRUE(bench_.until([&] { return bench_.disks.held.size() == 1; }));

  const auto removed = bench_.begin_remove("vol", true);
  ASSERT_TRUE(bench_.inbox.wait()) << "it is being saved";
  bench_.inbox.run();
  bench_.settle();
  EXPECT_THAT(remembered(), Not(HasSubstr("\"vol\"")));
  EXPECT_FALSE(removed->has_value()) << "its disk is busy";
  EXPECT_EQ(bench_.add("vol2", "other"), 0) << "which keeps nothing else from being done";
  bench_.disks.let_go();
  bench_.settle();
  ASSERT_TRUE(removed->has_value());
  EXPECT_TRUE(**removed);
}

TEST_F(ServerPlane, WhatCannotBeRememberedIsNotDone) {
  remember();
  ASSERT_EQ(bench_.add("vol", "disk"), 0);
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("vol"), 0);
  make_saving_fail();
  EXPECT_EQ(bench_.code_of(bench_.begin_remove("vol", true)), EISDIR);
  EXPECT_TRUE(is_exported("vol"));
  EXPECT_EQ(bench_.plane.list().at("devices").at(0).at("state"), "open");
  EXPECT_EQ(bench_.add("vol2", "other"), EISDIR);
  EXPECT_FALSE(is_exported("vol2"));
}

TEST_F(ServerPlane, ChangesAreMadeOneAfterTheOther) {
  remember();
  const auto first = bench_.ask(
      "export",
      {{"action", "add"}, {"name", "one"}, {"path", (bench_.directory.path() / "disk").string()}});
  const auto second = bench_.begin_remove("one", false);
  EXPECT_EQ(bench_.code_of(second), 0);
  EXPECT_EQ(bench_.code_of(first), 0);
  EXPECT_FALSE(is_exported("one"));
  EXPECT_THAT(remembered(), Not(HasSubstr("\"one\"")));
}

TEST_F(ServerPlane, WhatTheConfigurationHidesIsRememberedAllTheSame) {
  std::ofstream(state_path_) << R"({"version":1,"exports":[
      {"name":"vol","path":"/dev/added","access":"rw"}]})";
  const auto configure = [&](std::vector<NamedExport> exports) {
    bench_.plane.exports().named().configure(exports);
  };
  configure({{.name = "vol", .path = "/dev/configured"}});
  remember();
  const control::Json list = **(*bench_.ask("exports", control::Json::object()));
  ASSERT_EQ(list.at("exports").size(), 2U);
  EXPECT_FALSE(list.at("exports")[0].contains("hidden"));
  EXPECT_EQ(list.at("exports")[1].at("hidden"), true);
  ASSERT_EQ(bench_.add("vol2", "other"), 0);
  EXPECT_THAT(remembered(), HasSubstr("/dev/added")) << "saving has not lost it";
  EXPECT_EQ(bench_.code_of(bench_.begin_remove("vol", false)), 0);
  EXPECT_THAT(remembered(), Not(HasSubstr("/dev/added")));
  EXPECT_TRUE(is_exported("vol")) << "as the configuration has it";
}

TEST_F(ServerPlane, ADeviceThatIsBeingOpenedCanBeClosedByForce) {
  ASSERT_TRUE(bench_.client.bring_up());
  bench_.client.post(bench_.open_request("disk"));
  ASSERT_TRUE(bench_.until([&] { return !bench_.plane.exports().list().empty(); }));
  const auto closed =
      bench_.ask("session", control::to_json(control::SessionArgs{"close", "evil", "disk"}));
  EXPECT_EQ(bench_.code_of(closed), 0);
  EXPECT_EQ(bench_.client.outcome_of(0), ENOTCONN);
  EXPECT_TRUE(bench_.plane.exports().list().empty()) << "nobody knows its id";
  EXPECT_EQ(bench_.open("disk"), 0) << "who asks again gets it";
}

TEST_F(ServerPlane, AClientLostJustBeforeTheDrainComesBackToWhatItHad) {
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("disk"), 0);
  bench_.lose_client();
  EXPECT_EQ(bench_.drain().returning, 1U);
  ASSERT_TRUE(bench_.client.bring_up());
  EXPECT_EQ(bench_.open("disk"), 0);
  EXPECT_EQ(bench_.open("other"), ESHUTDOWN);
  EXPECT_EQ(bench_.drain().devices, 1U);
}

TEST_F(ServerPlane, AClientLostTwiceWhileItDrainsComesBackStill) {
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("disk"), 0);
  EXPECT_EQ(bench_.drain().devices, 1U);
  for (int i = 0; i < 3; ++i) {
    bench_.lose_client();
    EXPECT_EQ(bench_.drain().returning, 1U) << i;
    ASSERT_TRUE(bench_.client.bring_up()) << i;
    EXPECT_EQ(bench_.drain().returning, 1U) << i;
  }
  EXPECT_EQ(bench_.open("disk"), 0);
  EXPECT_EQ(bench_.drain().returning, 0U);
}

TEST_F(ServerPlane, AClientThatDoesNotComeBackIsNotAwaitedForEver) {
  ASSERT_TRUE(bench_.client.bring_up());
  ASSERT_EQ(bench_.open("disk"), 0);
  bench_.drain();
  bench_.lose_client();
  ASSERT_TRUE(bench_.client.bring_up());
  bench_.lose_client();
  bench_.pass(limits::kKeepMemory + std::chrono::seconds(1));
  EXPECT_EQ(bench_.drain().returning, 0U);
  EXPECT_FALSE(bench_.client.bring_up());
}

}  // namespace
}  // namespace rnbd::server::test
