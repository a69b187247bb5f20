// SPDX-License-Identifier: Apache-2.0
// What tree, show and check make of a daemon's answers.
#include "cli/views.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/control/verbs.h"

namespace rnbd::cli {
namespace {

using control::Json;
using testing::HasSubstr;
using testing::StartsWith;

Json path(const std::string& session, const std::string& name, const std::string& state) {
  return control::to_json(control::PathEntry{
      .session = session,
      .path = name,
      .state = state,
      .state_seconds = 7200,
      .policy = "min-inflight",
      .latency_us = 9,
      .in_flight = 12,
      .last_error = state == "connected" ? "" : "ETIMEDOUT: heartbeats went unanswered"});
}

Json device(const std::string& node, const std::string& session, const std::string& name,
            const std::string& state) {
  return control::to_json(control::DeviceEntry{.device = node,
                                               .session = session,
                                               .mapping_path = name,
                                               .state = state,
                                               .access_mode = "rw",
                                               .io_mode = "blockio",
                                               .size_bytes = 10ULL << 30,
                                               .state_seconds = 12,
                                               .in_flight = 84});
}

class Views : public testing::Test {
 protected:
  Views() {
    paths_["paths"] = Json::array({path("blya", "ip:10.0.0.1", "connected"),
                                   path("blya", "ip:10.1.0.1", "waiting"),
                                   path("other", "ip:10.2.0.1", "connected")});
    list_["devices"] = Json::array({device("/dev/nbd0", "blya", "vol1", "open"),
                                    device("/dev/nbd1", "other", "vol1", "open"),
                                    device("/dev/nbd2", "other", "vol2", "queueing")});
  }

  Health health(const std::string& name) { return check(list_, paths_, name).health; }

  Json list_;
  Json paths_;
};

TEST_F(Views, TheTreeHasEachSessionWithItsPathsAndDevices) {
  EXPECT_EQ(tree_text(list_, paths_),
            "blya  min-inflight\n"
            "├─ path ip:10.0.0.1  connected 2h  latency 9us  in flight 12\n"
            "├─ path ip:10.1.0.1  waiting 2h (ETIMEDOUT: heartbeats went unanswered)\n"
            "└─ /dev/nbd0  vol1  10G rw  open\n"
            "other  min-inflight\n"
            "├─ path ip:10.2.0.1  connected 2h  latency 9us  in flight 12\n"
            "├─ /dev/nbd1  vol1  10G rw  open\n"
            "└─ /dev/nbd2  vol2  10G rw  queueing 12s, 84 waiting\n");
  EXPECT_EQ(tree_text({{"devices", Json::array()}}, {{"paths", Json::array()}}), "");
}

TEST_F(Views, ThingsAreFoundByTheirNames) {
  EXPECT_EQ(find_object(list_, paths_, "/dev/nbd1")->at("session"), "other");
  EXPECT_EQ(find_object(list_, paths_, "other/vol1")->at("device"), "/dev/nbd1");
  EXPECT_EQ(find_object(list_, paths_, "vol2")->at("device"), "/dev/nbd2");
  EXPECT_EQ(find_object(list_, paths_, "ip:10.1.0.1")->at("state"), "waiting");
  const Json session = *find_object(list_, paths_, "blya");
  EXPECT_EQ(session.at("paths").size(), 2U);
  EXPECT_EQ(session.at("devices").size(), 1U);
  EXPECT_EQ(find_object(list_, paths_, "vol1").error().code, EINVAL) << "two are called so";
  EXPECT_EQ(find_object(list_, paths_, "vol3").error().code, ENOENT);
}

TEST_F(Views, AThingIsShownFieldByField) {
  const std::string text = show_text(*find_object(list_, paths_, "blya"));
  EXPECT_THAT(text, StartsWith("session: blya\npaths:\n  session: blya\n  path: ip:10.0.0.1\n"));
  EXPECT_THAT(text, HasSubstr("devices:\n  device: /dev/nbd0\n"));
  EXPECT_THAT(text, HasSubstr("  size_bytes: 10737418240\n"));
}

TEST_F(Views, CheckTellsHealthyFromDegradedFromFailed) {
  EXPECT_EQ(health("/dev/nbd1"), Health::Healthy);
  EXPECT_EQ(health("ip:10.0.0.1"), Health::Healthy);
  EXPECT_EQ(health("blya"), Health::Degraded);
  EXPECT_EQ(health("ip:10.1.0.1"), Health::Failed);
  EXPECT_EQ(health("other"), Health::Failed);
  EXPECT_EQ(health(""), Health::Failed);
  EXPECT_EQ(health("vol3"), Health::NotMapped);
  EXPECT_EQ(health("vol1"), Health::Failed) << "two are called so: neither is known to be well";
  EXPECT_EQ(check(list_, paths_, "/dev/nbd1").text, "OK: 1 devices, 0 paths");
  EXPECT_THAT(check(list_, paths_, "blya").text, StartsWith("DEGRADED: path ip:10.1.0.1  waiting"));
  EXPECT_THAT(check(list_, paths_, "").text, StartsWith("FAILED: /dev/nbd2  vol2"));
}

TEST_F(Views, WhatMakesNoSenseHarmsNobody) {
  list_["devices"][0]["paths"] = {{"a", 1}};
  list_["devices"][0]["devices"] = "x";
  list_["devices"][0]["session"] = nullptr;
  EXPECT_EQ(health("/dev/nbd0"), Health::Healthy);
  EXPECT_NE(tree_text(list_, paths_), "");
  EXPECT_NE(show_text(list_["devices"][0]), "");
}

TEST_F(Views, AServersThingsAreFoundByTheirNames) {
  const Json sessions = {{"sessions", Json::array({{{"session", "blya"}, {"devices", 1}},
                                                   {{"session", "idle"}, {"devices", 0}}})}};
  EXPECT_EQ(find_server_object(list_, sessions, "/dev/nbd1")->at("session"), "other");
  EXPECT_EQ(find_server_object(list_, sessions, "idle")->at("devices").size(), 0U);
  EXPECT_EQ(find_server_object(list_, sessions, "blya")->at("devices")[0].at("device"),
            "/dev/nbd0");
  EXPECT_EQ(find_server_object(list_, sessions, "vol1").error().code, EINVAL);
  EXPECT_EQ(find_server_object(list_, sessions, "nothing").error().code, ENOENT);
}

}  // namespace
}  // namespace rnbd::cli
