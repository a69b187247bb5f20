// SPDX-License-Identifier: Apache-2.0
// What commands and daemons say to each other, verb by verb: said, understood, and refused where it
// makes no sense.
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/control/admin_verbs.h"
#include "common/control/verbs.h"

namespace rnbd::control {
namespace {

using testing::ElementsAre;

TEST(VerbArgs, AreUnderstoodAsTheyWereSaid) {
  const auto path = read_path_args(to_json(PathArgs{"add", "blya", "ip:10.0.0.1", 4321, true}));
  ASSERT_TRUE(path);
  EXPECT_EQ(path->action, "add");
  EXPECT_EQ(path->path, "ip:10.0.0.1");
  EXPECT_EQ(path->port, 4321);
  EXPECT_TRUE(path->force);

  const auto session = read_session_args(to_json(SessionArgs{"close", "blya", "vol1"}));
  ASSERT_TRUE(session);
  EXPECT_EQ(session->session, "blya");
  EXPECT_EQ(session->device, "vol1");
  EXPECT_EQ(read_session_args(to_json(SessionArgs{"close", "blya", ""}))->device, "");

  const auto seen = read_events_args(to_json(EventsSeen{"42-7", 9}));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->daemon, "42-7");
  EXPECT_EQ(seen->after, 9U);
  EXPECT_EQ(read_events_args(Json::object())->daemon, "");

  const auto set = read_set_args(to_json(SetArgs{"all", {"on_no_path=queue"}}));
  ASSERT_TRUE(set);
  EXPECT_EQ(set->session, "all");
  EXPECT_THAT(set->words, ElementsAre("on_no_path=queue"));

  EXPECT_EQ(read_resize_args(resize_args("/dev/nbd1")), "/dev/nbd1");
  EXPECT_EQ(read_remap_args(remap_args("/dev/nbd1")), "/dev/nbd1");
  EXPECT_EQ(read_revalidate_args(revalidate_args("/dev/sda")), "/dev/sda");
  EXPECT_EQ(read_revalidate_args(revalidate_args("")), "");
  EXPECT_EQ(read_paths_args(Json{{"session", "blya"}}), "blya");
  EXPECT_EQ(read_upgrade_args(upgrade_args()), kJournalVersion);
}

TEST(VerbArgs, OfAdministrationAreUnderstoodAsTheyWereSaid) {
  const auto add = read_export_args(to_json(ExportArgs{
      .action = "add", .name = "vol1", .path = "/dev/a", .access = "ro", .temporary = true}));
  ASSERT_TRUE(add);
  EXPECT_EQ(add->name, "vol1");
  EXPECT_EQ(add->path, "/dev/a");
  EXPECT_EQ(add->access, "ro");
  EXPECT_TRUE(add->temporary);
  const auto remove =
      read_export_args(to_json(ExportArgs{.action = "remove", .name = "vol1", .force = true}));
  ASSERT_TRUE(remove);
  EXPECT_TRUE(remove->force);

  const auto drain = read_drain_args(to_json(DrainArgs{.session = "blya", .off = true}));
  ASSERT_TRUE(drain);
  EXPECT_EQ(drain->session, "blya");
  EXPECT_TRUE(drain->off);
  EXPECT_FALSE(drain->look);
  EXPECT_TRUE(read_drain_args(to_json(DrainArgs{.look = true}))->look);
}

/// A reader and what it refuses.
struct Refused {
  const char* verb;
  std::function<Status(const Json&)> read;
  std::vector<const char*> args;
};

template <typename Reader>
auto status_of(Reader reader) {
  return [reader](const Json& json) -> Status {
    const auto read = reader(json);
    if (read) return {};
    return fail(read.error());
  };
}

void expect_refused(const std::vector<Refused>& cases, int code) {
  for (const Refused& one : cases) {
    for (const char* const text : one.args) {
      const Status status = one.read(Json::parse(text));
      ASSERT_FALSE(status) << one.verb << ' ' << text;
      EXPECT_EQ(status.error().code, code) << one.verb << ' ' << text;
      EXPECT_FALSE(status.error().message.empty());
    }
  }
}

TEST(VerbArgs, ThatMakeNoSenseAreRefused) {
  expect_refused(
      {{"path",
        status_of(read_path_args),
        {"{}", R"({"action":"add"})", R"({"action":1,"session":"a","path":"b"})",
         R"({"action":"add","session":"a"})", R"({"action":"eat","session":"a","path":"b"})",
         R"({"action":"add","session":"a","path":"b","force":1})",
         R"({"action":"add","session":"a","path":"b","port":0})",
         R"({"action":"add","session":"a","path":"b","port":65536})",
         R"({"action":"add","session":"a","path":"b","port":-1})",
         R"({"action":"add","session":"a","path":"b","port":"1"})"}},
       {"session",
        status_of(read_session_args),
        {"{}", R"({"action":"close"})", R"({"action":"open","session":"a"})",
         R"({"action":"close","session":"a","device":3})"}},
       {"events",
        status_of(read_events_args),
        {R"({"daemon":3})", R"({"after":-1})", R"({"after":"1"})"}},
       {"set",
        status_of(read_set_args),
        {"{}", R"({"words":[]})", R"({"session":"a"})", R"({"session":"a","words":[1]})"}},
       {"resize", status_of(read_resize_args), {"{}", R"({"device":3})"}},
       {"remap", status_of(read_remap_args), {"{}"}},
       {"revalidate", status_of(read_revalidate_args), {R"({"device":3})"}},
       {"paths", status_of(read_paths_args), {R"({"session":[]})"}},
       {"upgrade", status_of(read_upgrade_args), {"{}", R"({"journals":"3"})"}},
       {"export",
        status_of(read_export_args),
        {"{}", R"({"action":"eat","name":"a"})", R"({"action":"add","name":3})",
         R"({"action":"add","name":"a","path":3})",
         R"({"action":"add","name":"a","temporary":3})"}},
       {"drain",
        status_of(read_drain_args),
        {R"({"session":3})", R"({"off":3})", R"({"look":"yes"})"}}},
      EINVAL);
}

TEST(VerbResults, ThatMakeNoSenseAreRefused) {
  expect_refused(
      {{"map", status_of(read_map_result), {"[]", "{}", R"({"device":3})"}},
       {"resize", status_of(read_resize_result), {"[]", "{}", R"({"size_bytes":-1})"}},
       {"list", check_list_result, {"{}", "[]", R"({"devices":[3]})"}},
       {"paths", check_paths_result, {"{}"}},
       {"sessions", check_sessions_result, {"{}"}},
       {"discover", check_servers_result, {"{}"}},
       {"export list", check_exports_result, {"{}"}},
       {"events",
        check_events_result,
        {"{}", R"({"events":[]})", R"({"events":[],"daemon":3,"next":1})",
         R"({"events":[],"daemon":"a","next":-1})", R"({"events":[3],"daemon":"a","next":1})",
         R"({"events":[],"daemon":"a","next":1,"snapshot":3})"}},
       {"reload",
        check_reload_result,
        {"[]", "{}", R"({"changed":[]})", R"({"changed":[3],"needs_restart":[]})",
         R"({"changed":[],"needs_restart":{}})",
         R"({"changed":[],"needs_restart":[],"refused":{}})",
         R"({"changed":[],"needs_restart":[],"refused":[{"key":"export"}]})",
         R"({"changed":[],"needs_restart":[],"refused":[{"key":1,"reason":"no"}]})"}},
       {"drain",
        status_of(read_drain_result),
        {"[]", "{}", R"({"devices":1})", R"({"devices":-1,"returning":1})",
         R"({"devices":1,"returning":"1"})"}}},
      EPROTO);
}

TEST(VerbResults, AreUnderstoodAsTheyWereSaid) {
  EXPECT_EQ(read_map_result(map_result("/dev/nbd1")), "/dev/nbd1");
  EXPECT_EQ(read_resize_result(resize_result("/dev/nbd1", 4096)), 4096U);
  EXPECT_TRUE(check_paths_result(paths_result(Json::array({to_json(PathEntry{})}))));
  EXPECT_TRUE(check_sessions_result(sessions_result(Json::array({to_json(SessionEntry{})}))));
  EXPECT_TRUE(check_servers_result(servers_result(Json::array({to_json(ServerEntry{})}))));
  EXPECT_TRUE(check_exports_result(exports_result(Json::array({to_json(ExportEntry{})}))));
  const auto reloaded =
      read_reload_result(to_json(ReloadResult{{"a"}, {"b", "c"}, {{"d", "it is in use"}}}));
  ASSERT_TRUE(reloaded);
  EXPECT_THAT(reloaded->changed, ElementsAre("a"));
  EXPECT_THAT(reloaded->needs_restart, ElementsAre("b", "c"));
  ASSERT_EQ(reloaded->refused.size(), 1U);
  EXPECT_EQ(reloaded->refused[0].key, "d");
  EXPECT_EQ(reloaded->refused[0].why, "it is in use");
  EXPECT_TRUE(check_reload_result(to_json(ReloadResult{})));
  const auto drained = read_drain_result(to_json(DrainResult{2, 1}));
  ASSERT_TRUE(drained);
  EXPECT_EQ(drained->devices, 2U);
  EXPECT_EQ(drained->returning, 1U);
}

TEST(VerbResults, LeaveOutWhatThereIsNot) {
  const Json unreachable = to_json(
      ServerEntry{.path = "ip:10.0.0.1", .state = "unreachable", .last_error = "ECONNREFUSED"});
  EXPECT_EQ(unreachable.dump(),
            R"({"path":"ip:10.0.0.1","state":"unreachable","last_error":"ECONNREFUSED"})");
  EXPECT_FALSE(to_json(PathEntry{}).contains("last_error"));
  EXPECT_TRUE(to_json(PathEntry{.last_error = "x"}).contains("last_error"));
  EXPECT_FALSE(to_json(ExportEntry{}).contains("size_bytes"));
  EXPECT_EQ(to_json(ExportEntry{.size_bytes = 7, .error = "x"}).value("size_bytes", 0), 7);
}

TEST(VerbResults, HistogramsEndWithTheLastBucketThatIsUsed) {
  DeviceStats stats;
  stats.device = "/dev/nbd1";
  stats.latencies.read.buckets[2] = 3;
  stats.stages.push_back({.stage = "queue", .latencies = {}});
  const Json json = to_json(stats);
  EXPECT_EQ(json["read_latency"]["buckets"].dump(), "[0,0,3]");
  EXPECT_EQ(json["read_latency"]["count"], 3);
  EXPECT_EQ(json["write_latency"]["buckets"].dump(), "[]");
  EXPECT_TRUE(json["stages"]["queue"].contains("other"));
}

}  // namespace
}  // namespace rnbd::control
