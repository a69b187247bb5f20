// SPDX-License-Identifier: Apache-2.0
// The commands that look at devices, and rnbdtab.
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli_bench.h"

namespace rnbd::control {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(Cli, ResizePrintsTheBytes) {
  answer("resize", resize_result("/dev/nbd3", 1 << 20));
  const Ran ran = client({"resize", "/dev/nbd3"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out, "1048576\n");
  EXPECT_EQ(asked().dump(), R"({"device":"/dev/nbd3"})");
}

TEST_F(Cli, ResizeOfWhatIsNotMappedFails) {
  answer("resize", fail(ENOENT, "/dev/nbd3 is not mapped by this daemon"));
  EXPECT_EQ(client({"resize", "/dev/nbd3"}).exit, 4);
  const Ran ran = client({"resize"});
  EXPECT_EQ(ran.exit, 2);
  EXPECT_THAT(ran.err, HasSubstr("which device?"));
}

TEST_F(Cli, SessionsAreListedAndClosed) {
  Json sessions = Json::array();
  sessions.push_back(to_json(SessionEntry{"blya", "ip:10.0.0.2", 3, 64 << 20}));
  sessions[0]["paths"] = Json::array({{{"state", "connected"}}, {{"state", "closing"}}});
  answer("sessions", sessions_result(std::move(sessions)));
  EXPECT_EQ(server({"session", "list"}).out,
            "SESSION  CLIENT       STATE  DEVICES  PATHS  PINNED\n"
            "blya     ip:10.0.0.2  open         3  U_        64M\n");
  EXPECT_EQ(Json::parse(server({"session", "list", "--json"}).out).at("sessions").size(), 1U);
  answer("session", Json::object());
  EXPECT_EQ(server({"session", "close", "blya"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"action":"close","session":"blya"})");
  EXPECT_EQ(server({"session", "close", "blya", "vol1"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"action":"close","session":"blya","device":"vol1"})");
  EXPECT_EQ(server({"session", "close", "blya", "vol1", "vol2"}).exit, 2);
  answer("session", fail(ENOENT, "there is no session blyo"));
  EXPECT_EQ(server({"session", "close", "blyo"}).exit, 4);
  EXPECT_EQ(server({"session", "close"}).exit, 2);
  EXPECT_THAT(server({"session", "clsoe", "x"}).err, HasSubstr("did you mean 'close'?"));
}

TEST_F(Cli, RevalidateListsWhatHasChanged) {
  Json changed = Json::array();
  changed.push_back(to_json(ResizedEntry{"/dev/vg/vol1", "blya", 1 << 20, 2 << 20}));
  answer("revalidate", list_result(std::move(changed)));
  const Ran ran = server({"revalidate", "/dev/vg/vol1"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(asked().dump(), R"({"device":"/dev/vg/vol1"})");
  EXPECT_EQ(ran.out,
            "DEVICE        SESSION  WAS  SIZE\n"
            "/dev/vg/vol1  blya      1M    2M\n");
  const Ran json = server({"revalidate", "--json"});
  EXPECT_EQ(asked().dump(), "{}");
  EXPECT_EQ(Json::parse(json.out).at("devices").at(0).at("was_bytes"), 1 << 20);
}

TEST_F(Cli, RevalidateOfADiskThatNobodyHasOpenFails) {
  answer("revalidate", fail(ENOENT, "no client has /dev/sdz open"));
  const Ran ran = server({"revalidate", "/dev/sdz"});
  EXPECT_EQ(ran.exit, 4);
  EXPECT_THAT(ran.err, HasSubstr("revalidate: ENOENT: no client has /dev/sdz open"));
}

Json some_stats() {
  Json devices = Json::array();
  devices.push_back(to_json(
      DeviceStats{.device = "/dev/nbd0", .session = "blya", .mapping_path = "vol1", .reads = 7}));
  return list_result(std::move(devices));
}

TEST_F(Cli, StatsAreATableOrJson) {
  answer("stats", some_stats());
  EXPECT_THAT(client({"stats"}).out, HasSubstr("\n/dev/nbd0  blya     vol1              7"));
  EXPECT_EQ(Json::parse(server({"stats", "--json"}).out).at("devices")[0].at("reads"), 7);
  EXPECT_EQ(client({"stats", "--frobnicate"}).exit, 2);
}

TEST_F(Cli, TopLooksSoOften) {
  answer("stats", some_stats());
  const Ran ran = client({"top", "--interval", "0.1", "-n", "2", "--noheaders"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out,
            "/dev/nbd0  blya  vol1  0  0B  -  0  0B  -  0  0\n"
            "/dev/nbd0  blya  vol1  0  0B  -  0  0B  -  0  0\n");
  EXPECT_EQ(client({"top", "--interval", "0"}).exit, 2);
}

TEST_F(Cli, ConfigValidateSaysWhereAFileIsWrong) {
  const std::string file = directory_ + "/server.toml";
  std::ofstream(file) << "port_nr = 1234\n";
  EXPECT_EQ(server({"config", "validate", file}).out, file + " is fine\n");
  std::ofstream(file) << "port_nr = 1234\nport_mr = 1\n";
  const Ran wrong = server({"config", "validate", file});
  EXPECT_EQ(wrong.exit, 12);
  EXPECT_THAT(wrong.err, HasSubstr(file + ":2:1: unknown key 'port_mr'; did you mean 'port_nr'?"));
  const Ran tab_is_wrong = client({"config", "validate", tab("vol1\n").substr(11)});
  EXPECT_EQ(tab_is_wrong.exit, 12);
  EXPECT_THAT(tab_is_wrong.err, HasSubstr("/tab:1:1: column 2 is missing"));
  EXPECT_EQ(client({"config"}).exit, 2);
}

TEST_F(Cli, TreeShowAndCheckAskForListAndPaths) {
  Json paths = Json::array();
  paths.push_back(to_json(PathEntry{
      .session = "blya", .path = "ip:10.0.0.1", .state = "connected", .policy = "min-inflight"}));
  serve({{"list", [](const Json&, Reply reply) { reply(one_device()); }},
         {"paths", [paths](const Json&, Reply reply) { reply(paths_result(paths)); }}});
  EXPECT_THAT(client({"tree"}).out, StartsWith("blya  min-inflight\n├─ path ip:10.0.0.1"));
  EXPECT_EQ(Json::parse(client({"tree", "--json"}).out).at("paths").size(), 1U);
  EXPECT_THAT(client({"show", "/dev/nbd0"}).out, StartsWith("device: /dev/nbd0\nsession: blya\n"));
  EXPECT_EQ(Json::parse(client({"show", "vol1", "--json"}).out).at("device"), "/dev/nbd0");
  EXPECT_EQ(client({"show", "vol2"}).exit, 4);
  EXPECT_EQ(client({"show"}).exit, 2);
  EXPECT_EQ(client({"check", "ip:10.0.0.1"}).exit, 0);
  const Ran missing = client({"check", "vol2"});
  EXPECT_EQ(missing.exit, 3);
  EXPECT_THAT(missing.out, StartsWith("NOT MAPPED: "));
}

constexpr const char* kTab =
    "vol1 blya vol1 path=ip:10.0.0.1\n"
    "vol2 blya vol2 path=ip:10.0.0.1\n"
    "rare blya rare noauto\n";

TEST_F(Cli, ApplyMapsWhatIsMissingAndNothingElse) {
  serve_mappings();
  const Ran ran = client({"apply", tab(kTab)});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.out, "+ vol2 /dev/nbd7\n");
  EXPECT_THAT(done(), ElementsAre("map device_path=vol2"));
}

TEST_F(Cli, ApplyMayOnlySayWhatItWouldDo) {
  serve_mappings();
  const Ran ran = client({"apply", "-n", tab(kTab)});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.out, "+ vol2 sessname=blya device_path=vol2 path=ip:10.0.0.1\n");
  EXPECT_THAT(done(), ElementsAre());
}

TEST_F(Cli, ApplyUnmapsWhatTheTabDoesNotNameIfToldTo) {
  serve_mappings();
  EXPECT_EQ(client({"apply", tab("")}).out, "");
  EXPECT_THAT(done(), ElementsAre());
  const Ran ran = client({"apply", "--prune", tab("")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.out, "- /dev/nbd0 blya vol1\n");
  EXPECT_THAT(done(), ElementsAre("unmap /dev/nbd0"));
}

TEST_F(Cli, ApplyGoesOnBehindAFailureAndSaysSo) {
  serve_mappings();
  const std::string option =
      tab("bad blya bad path=ip:10.0.0.1\nvol2 blya vol2 path=ip:10.0.0.1\n");
  const Ran ran = client({"apply", option});
  EXPECT_EQ(ran.exit, 11);
  EXPECT_EQ(ran.out, "+ vol2 /dev/nbd7\n");
  EXPECT_THAT(ran.err, HasSubstr("apply bad: ENOENT: no bad here"));
  EXPECT_THAT(ran.err, HasSubstr("1 of 2 steps failed"));
  EXPECT_EQ(client({"apply", tab("bad blya bad path=ip:10.0.0.1")}).exit, 4) << "the only step's";
}

TEST_F(Cli, ApplyTellsOfEachStepInJson) {
  serve_mappings();
  const Ran ran = client({"apply", "--json", "--prune", tab("vol2 blya vol2 path=ip:10.0.0.1")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  const Json json = Json::parse(ran.out);
  EXPECT_EQ(json.at("schema_version"), 1);
  ASSERT_EQ(json.at("changes").size(), 2U);
  EXPECT_EQ(json.at("changes")[0].dump(),
            R"({"action":"map","name":"vol2","session":"blya","mapping_path":"vol2",)"
            R"("device":"/dev/nbd7"})");
  EXPECT_EQ(json.at("changes")[1].at("action"), "unmap");
}

TEST_F(Cli, ALineOfTheTabIsMappedByItsName) {
  serve_mappings();
  EXPECT_EQ(client({"map", "--tab", "rare", tab(kTab)}).out, "/dev/nbd7\n");
  EXPECT_THAT(done(), ElementsAre("map device_path=rare"));
  EXPECT_EQ(client({"map", "--tab", "vol1", tab(kTab)}).out, "/dev/nbd0\n") << "it is already";
  EXPECT_THAT(done(), ElementsAre());
  EXPECT_EQ(client({"unmap", "--tab", "vol1", tab(kTab)}).exit, 0);
  EXPECT_THAT(done(), ElementsAre("unmap /dev/nbd0"));
  EXPECT_EQ(client({"unmap", "--tab", "vol2", tab(kTab)}).exit, 4) << "it is not mapped";
  const Ran unknown = client({"map", "--tab", "vol3", tab(kTab)});
  EXPECT_EQ(unknown.exit, 4);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'vol1'?"));
}

TEST_F(Cli, AWrongTabIsToldWithItsPlace) {
  const Ran ran = client({"apply", tab("\nvol1 blya\n")});
  EXPECT_EQ(ran.exit, 12);
  EXPECT_THAT(ran.err, HasSubstr("/tab:2:6: column 3 is missing"));
  EXPECT_EQ(client({"apply", "--tab-file=/nowhere"}).exit, 4);
}

}  // namespace
}  // namespace rnbd::control
