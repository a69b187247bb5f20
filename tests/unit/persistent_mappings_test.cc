// SPDX-License-Identifier: Apache-2.0
// Mappings that come back: what is remembered of them.
#include "client/persistent_mappings.h"

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rnbd::client {
namespace {

using testing::ElementsAre;
using Words = std::vector<std::string>;

/// To those ports.
std::vector<PathSpec> paths(std::uint16_t first, std::uint16_t second) {
  return {{"", "ip:10.0.0.1", first}, {"ip:10.1.0.2", "ip:10.1.0.1", second}};
}

PersistentMapping remembered(const Words& words,
                             const std::vector<PathSpec>& ways = paths(1234, 1234)) {
  const auto request = parse_map_words(words, "host");
  EXPECT_TRUE(request) << request.error().message;
  EXPECT_TRUE(request->persist);
  return make_persistent(words, *request, ways, "/dev/nbd3");
}

TEST(PersistentMappings, NameTheirSessionThoughTheHostMayBeCalledOtherwise) {
  const auto made =
      remembered({"server=ip:10.0.0.1", "device_path=vol1", "persist=yes", "access_mode=ro"});
  EXPECT_EQ(made.session, "host@10-0-0-1");
  EXPECT_EQ(made.name(), "host@10-0-0-1/vol1");
  EXPECT_THAT(made.words, ElementsAre("server=ip:10.0.0.1", "device_path=vol1", "access_mode=ro",
                                      "sessname=host@10-0-0-1"));
  const auto again = parse_map_words(made.words, "another");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->session_name, "host@10-0-0-1");
  EXPECT_FALSE(again->persist);
}

TEST(PersistentMappings, KnowTheWayIfTheirSessionIsGone) {
  // The port that was said meant nothing: the session was there.
  const auto made = remembered({"sessname=blya", "device_path=vol2", "dest_port=9", "persist=yes"},
                               paths(4321, 4321));
  const auto again = parse_map_words(made.words, "host");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->paths, paths(0, 0));
  EXPECT_EQ(again->port, 4321);
}

TEST(PersistentMappings, KnowThePortOfEachWay) {
  const auto made =
      remembered({"sessname=blya", "device_path=vol2", "persist=yes"}, paths(1234, 4321));
  const auto again = parse_map_words(made.words, "host");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->paths, paths(1234, 4321));
}

TEST(PersistentMappings, FollowTheirSession) {
  PersistentMappings all;
  all.put({"blya", "vol1", {"a=b", "on_no_path=queue", "device_path=on_no_path=x"}, ""});
  all.put({"blya", "vol2", {}, ""});
  all.put({"blub", "vol1", {}, ""});
  const Words words = {"on_no_path=fail-after:5", "mpath_policy=rr"};
  EXPECT_TRUE(all.change("blya", words));
  EXPECT_THAT(
      all.find("blya", "vol1")->words,
      ElementsAre("a=b", "device_path=on_no_path=x", "on_no_path=fail-after:5", "mpath_policy=rr"));
  EXPECT_EQ(all.find("blya", "vol2")->words, words);
  EXPECT_TRUE(all.find("blub", "vol1")->words.empty());
  EXPECT_FALSE(all.change("blya", words)) << "they say so already";
  EXPECT_FALSE(all.change("nobody", words));
}

TEST(PersistentMappings, KeepTheWayThatWasSaid) {
  const auto made = remembered(
      {"sessname=blya", "path=ip:10.9.0.1", "dest_port=7", "device_path=vol2", "persist=yes"});
  EXPECT_THAT(made.words,
              ElementsAre("sessname=blya", "path=ip:10.9.0.1", "dest_port=7", "device_path=vol2"));
}

TEST(PersistentMappings, AreFoundReplacedAndForgotten) {
  PersistentMappings all;
  all.put({"blya", "vol1", {"a=b"}, "/dev/nbd0"});
  all.put({"blya", "vol2", {}, "/dev/nbd1"});
  all.put({"blya", "vol1", {}, "/dev/nbd2"});
  ASSERT_EQ(all.all().size(), 2U);
  EXPECT_EQ(all.find("blya", "vol1")->node, "/dev/nbd2");
  EXPECT_EQ(all.find("blub", "vol1"), nullptr);
  EXPECT_EQ(std::as_const(all).find("blya", "vol2")->node, "/dev/nbd1");
  EXPECT_EQ(std::as_const(all).find("blya", "vol3"), nullptr);
  EXPECT_TRUE(all.erase("blya", "vol1"));
  EXPECT_FALSE(all.erase("blya", "vol1"));
}

TEST(PersistentMappings, SurviveBeingWrittenDown) {
  PersistentMappings all;
  all.put(
      remembered({"sessname=blya", "path=ip:10.9.0.1", "device_path=vol \"2\"", "persist=yes"}));
  const auto read = PersistentMappings::from_json(all.to_json());
  ASSERT_EQ(read.all().size(), 1U);
  EXPECT_EQ(read.all()[0].device_path, "vol \"2\"");
  EXPECT_EQ(read.all()[0].words, all.all()[0].words);
  EXPECT_EQ(read.all()[0].node, "/dev/nbd3");
}

TEST(PersistentMappings, WhatMakesNoSenseThrows) {
  for (const char* const text :
       {"{}", R"({"mappings":3})", R"({"mappings":[3]})", R"({"mappings":[{"session":"a"}]})",
        R"({"mappings":[{"session":"","device_path":"b","words":[],"node":""}]})",
        R"({"mappings":[{"session":"a","device_path":"b","words":[1],"node":""}]})"}) {
    EXPECT_THROW(PersistentMappings::from_json(control::Json::parse(text)), std::exception) << text;
  }
}

}  // namespace
}  // namespace rnbd::client
