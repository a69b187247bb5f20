// SPDX-License-Identifier: Apache-2.0
// The commands by which daemons are administered: configurations, reload, exports, draining.
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli_bench.h"
#include "common/control/admin_verbs.h"

namespace rnbd::control {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class Admin : public Cli {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    const std::string file = directory_ + '/' + name;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file) << text;
    return file;
  }
};

TEST_F(Admin, ConfigValidateLooksAtDropInsToo) {
  for (const bool of_client : {true, false}) {
    const auto run_it = [&](std::vector<std::string> words) {
      return of_client ? client(std::move(words)) : server(std::move(words));
    };
    const std::string name = of_client ? "client.toml" : "server.toml";
    const std::string file = write(name, "log_level = \"info\"\n");
    const std::string dropin = write(name + ".d/10.toml", "hb_missed_max = 3\n");
    EXPECT_EQ(run_it({"config", "validate", file}).out,
              file + " is fine\n" + dropin + " is fine\n");
    EXPECT_EQ(Json::parse(run_it({"config", "validate", file, "--json"}).out).at("valid").size(),
              2U);
    write(name + ".d/10.toml", "\nhb_missed_max = 0\n");
    const Ran wrong = run_it({"config", "validate", file});
    EXPECT_EQ(wrong.exit, 12);
    EXPECT_EQ(wrong.out, "");
    EXPECT_THAT(wrong.err, HasSubstr(dropin + ":2:17: hb_missed_max must be 1 to 100"));
  }
}

TEST_F(Admin, ConfigValidateTellsATabFromTomlByItsName) {
  EXPECT_EQ(client({"config", "validate", write("x.toml", "vol1 blya\n")}).exit, 12);
  EXPECT_THAT(client({"config", "validate", write("tab", "vol1 blya vol1 path=ip:10.0.0.1\n")}).out,
              EndsWith("/tab is fine\n"));
}

TEST_F(Admin, ConfigShowSaysWhereEachSettingComesFrom) {
  const std::string file = write("client.toml", "on_no_path = \"fail-after:9\"\n");
  const std::string dropin = write("client.toml.d/x.toml", "\nlog_level = \"debug\"\n");
  const Ran shown = client({"config", "show", file});
  EXPECT_EQ(shown.exit, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("hb_interval_ms = 100                      # default\n"));
  EXPECT_THAT(shown.out,
              HasSubstr("on_no_path = \"fail-after:9\"               # " + file + ":1:1\n"));
  EXPECT_THAT(shown.out, HasSubstr("# " + dropin + ":2:1\n"));
  std::ofstream(directory_ + "/again.toml") << shown.out;
  EXPECT_EQ(client({"config", "validate", directory_ + "/again.toml"}).exit, 0)
      << "what is shown can be a file";
  const Json json = Json::parse(client({"config", "show", file, "--json"}).out);
  EXPECT_EQ(json.at("schema_version"), 1);
  for (const Json& one : json.at("settings")) {
    const bool set = one.at("key") == "log_level" || one.at("key") == "on_no_path";
    EXPECT_EQ(one.at("origin") == "default", !set) << one;
  }
  EXPECT_EQ(client({"config", "show", write("w.toml", "x = 1\n")}).exit, 12);
  EXPECT_EQ(client({"config", "convert"}).exit, 2);
}

TEST_F(Admin, WhatTheServerShowsCanBeAFileToo) {
  const std::string file =
      write("server.toml", "port_nr = 1\n[[export]]\nname = \"a \\\"b\\\"\"\npath = \"/dev/a\"\n");
  const Ran shown = server({"config", "show", file});
  EXPECT_THAT(shown.out, HasSubstr("\n[[export]]\nname = \"a \\\"b\\\"\"\npath = \"/dev/a\"\n"));
  EXPECT_EQ(server({"config", "validate", write("again.toml", shown.out)}).exit, 0);
}

TEST_F(Admin, AWrongFileOfTheClientHasItsExitCodeAndItsPlace) {
  const std::string file = write("client.toml", "mpath_polcy = \"rr\"\n");
  const Ran ran = client({"daemon", "--config", file});
  EXPECT_EQ(ran.exit, 12);
  EXPECT_EQ(ran.err, "rnbd-client: daemon: EINVAL: " + file +
                         ":1:1: unknown key 'mpath_polcy'; did you mean 'mpath_policy'?\n");
  EXPECT_EQ(client({"daemon", "--config", directory_ + "/none.toml"}).exit, 12);
  EXPECT_EQ(client({"daemon", "--state-dir", "relative"}).exit, 2);
}

TEST_F(Admin, ReloadSaysWhatHasChanged) {
  answer("reload", to_json(ReloadResult{{"log_level", "on_no_path"}, {"control"}, {}}));
  EXPECT_EQ(client({"reload"}).out, "changed: log_level, on_no_path\nneeds a restart: control\n");
  EXPECT_EQ(Json::parse(server({"reload", "--json"}).out).at("needs_restart")[0], "control");
  answer("reload", to_json(ReloadResult{}));
  EXPECT_EQ(server({"reload"}).out, "nothing has changed\n");
  answer("reload", Json::object());
  EXPECT_EQ(server({"reload"}).exit, 9);
}

TEST_F(Admin, ReloadSaysWhatIsRefusedForAClientsSake) {
  answer("reload", to_json(ReloadResult{{"log_level"},
                                        {},
                                        {{"export", "vol1 stays /dev/a: blya has it open"},
                                         {"dev_search_path", "vol2 stays /dev/b"}}}));
  const Ran ran = server({"reload"});
  EXPECT_EQ(ran.exit, 11);
  EXPECT_EQ(ran.out, "changed: log_level\n");
  EXPECT_EQ(ran.err,
            "rnbd-server: reload: EBUSY: export: vol1 stays /dev/a: blya has it open\n"
            "rnbd-server: reload: EBUSY: dev_search_path: vol2 stays /dev/b\n"
            "rnbd-server: all else is in force; reload again when it is unmapped there\n");
  const Ran json = server({"reload", "--json"});
  EXPECT_EQ(json.exit, 11);
  EXPECT_EQ(Json::parse(json.out).at("refused")[1].at("key"), "dev_search_path");
  Json older = to_json(ReloadResult{});
  older.erase("refused");
  answer("reload", older);
  EXPECT_EQ(server({"reload"}).exit, 0);
}

TEST_F(Admin, ReloadOfAWrongFileFails) {
  serve("reload", [](const Json&, Reply reply) {
    reply.refuse({{EINVAL, "/etc/rnbd/server.toml:3:1: no"}, ExitCode::ConfigInvalid, {}});
  });
  const Ran ran = server({"reload", "--json"});
  EXPECT_EQ(ran.exit, 12);
  EXPECT_EQ(ran.err, "rnbd-server: reload: EINVAL: /etc/rnbd/server.toml:3:1: no\n");
  EXPECT_EQ(Json::parse(ran.out).at("error").at("exit"), 12);
}

TEST_F(Admin, ExportsAreListed) {
  Json exports = Json::array();
  exports.push_back(to_json(ExportEntry{.name = "vol1",
                                        .path = "/dev/vg/vol1",
                                        .access = "ro",
                                        .origin = "config",
                                        .hidden = false,
                                        .size_bytes = 1 << 30,
                                        .error = {},
                                        .opened_by = {"blya", "blub"}}));
  exports.push_back(to_json(ExportEntry{.name = "gone",
                                        .path = "/dev/x",
                                        .access = "rw",
                                        .origin = "added",
                                        .hidden = true,
                                        .size_bytes = {},
                                        .error = "no device /dev/x",
                                        .opened_by = {}}));
  answer("exports", exports_result(std::move(exports)));
  EXPECT_EQ(server({"export", "list"}).out,
            "NAME  PATH          ACCESS  SIZE  ORIGIN          OPENED BY\n"
            "vol1  /dev/vg/vol1  ro        1G  config          blya,blub\n"
            "gone  /dev/x        rw         -  added (hidden)  -\n");
  const Json json = Json::parse(server({"export", "list", "--json"}).out);
  EXPECT_EQ(json.at("exports")[0].at("size_bytes"), 1 << 30);
  EXPECT_EQ(json.at("exports")[1].at("error"), "no device /dev/x");
  EXPECT_EQ(server({"export", "list", "x"}).exit, 2);
}

TEST_F(Admin, ExportsAreAddedAndRemoved) {
  answer("export", Json::object());
  EXPECT_EQ(server({"export", "add", "vol1", "path=/dev/vg/vol1", "access=ro"}).exit, 0);
  EXPECT_EQ(
      asked().dump(),
      R"({"action":"add","name":"vol1","path":"/dev/vg/vol1","access":"ro","temporary":false})");
  EXPECT_EQ(server({"export", "add", "vol1", "path=/dev/vg/vol1", "--temporary"}).exit, 0);
  EXPECT_EQ(asked().at("temporary"), true);
  EXPECT_EQ(asked().at("access"), "rw");
  EXPECT_EQ(server({"export", "remove", "vol1", "--force"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"action":"remove","name":"vol1","force":true})");
}

TEST_F(Admin, WordsOfExportThatMakeNoSense) {
  EXPECT_EQ(server({"export"}).exit, 2);
  EXPECT_EQ(server({"export", "add"}).exit, 2);
  EXPECT_THAT(server({"export", "add", "vol1"}).err, HasSubstr("path= is missing"));
  EXPECT_THAT(server({"export", "add", "vol1", "pth=/x"}).err, HasSubstr("did you mean 'path'?"));
  EXPECT_EQ(server({"export", "remove", "vol1", "vol2"}).exit, 2);
  EXPECT_THAT(server({"export", "rmove", "vol1"}).err, HasSubstr("did you mean 'remove'?"));
}

TEST_F(Admin, FailuresOfExportHaveTheirExitCodes) {
  answer("export", fail(EEXIST, "vol1 is exported already: /dev/vg/vol1"));
  EXPECT_EQ(server({"export", "add", "vol1", "path=/x"}).exit, 3);
  answer("export", fail(EBUSY, "vol1 is open: blya\n--force closes it for its clients"));
  const Ran busy = server({"export", "remove", "vol1"});
  EXPECT_EQ(busy.exit, 5);
  EXPECT_THAT(busy.err, EndsWith("rnbd-server: --force closes it for its clients\n"));
  answer("export", fail(EPERM, "vol1 is in the configuration"));
  EXPECT_EQ(server({"export", "remove", "vol1"}).exit, 6);
}

TEST_F(Admin, DrainReturnsWhenNothingIsOpen) {
  std::atomic<int> asked = 0;
  serve("drain", [&](const Json& args, Reply reply) {
    // It is begun once: who ends it ends those that wait for it.
    EXPECT_EQ(args.dump(), asked == 0 ? R"({"off":false,"session":"blya"})"
                                      : R"({"off":false,"look":true,"session":"blya"})");
    constexpr std::array kLeft = {DrainResult{2, 0}, DrainResult{2, 0}, DrainResult{1, 1},
                                  DrainResult{0, 0}};
    reply(to_json(kLeft.at(static_cast<std::size_t>(asked++))));
  });
  const Ran ran = server({"drain", "blya"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err,
            "rnbd-server: drain: 2 devices still open\n"
            "rnbd-server: drain: 1 device still open, 1 session lost\n");
  EXPECT_EQ(asked, 4);
}

TEST_F(Admin, DrainThatSomebodyEndsWaitsNoLonger) {
  std::atomic<int> asked = 0;
  serve("drain", [&](const Json&, Reply reply) {
    if (asked++ == 0) return reply(to_json(DrainResult{1, 0}));
    reply(fail(ECANCELED, "somebody has ended it"));
  });
  EXPECT_EQ(server({"drain"}).exit, 1);
  EXPECT_EQ(server({"drain", ""}).exit, 2) << "no session is not all of them";
}

TEST_F(Admin, DrainGivesUpWaitingAfterItsTimeout) {
  answer("drain", to_json(DrainResult{1, 0}));
  const Ran ran = server({"drain", "--timeout", "0.3"});
  EXPECT_EQ(ran.exit, 8);
  EXPECT_THAT(ran.err, HasSubstr("ETIMEDOUT: 1 device still open after 0.3 s; it is drained on\n"));
  EXPECT_EQ(server({"drain", "--timeout", "soon"}).exit, 2);
}

TEST_F(Admin, DrainOffDoesNotWait) {
  answer("drain", to_json(DrainResult{7, 0}));
  EXPECT_EQ(server({"drain", "--off"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"off":true})");
  EXPECT_EQ(Json::parse(server({"drain", "--off", "--json"}).out).at("devices"), 7);
  answer("drain", fail(ENOENT, "there is no session blyo"));
  EXPECT_EQ(server({"drain", "blyo"}).exit, 4);
}

TEST_F(Admin, ServerShowsADeviceOrASession) {
  Json devices = Json::array();
  devices.push_back(to_json(
      DeviceEntry{"/dev/ram0", "blya", "vol1", "draining", "rw", "fileio", 4096, "ip:10.0.0.2"}));
  Json sessions = Json::array();
  sessions.push_back(to_json(SessionEntry{"blya", "ip:10.0.0.2", 1, 64 << 20, "draining"}));
  serve({{"list", [=](const Json&, Reply reply) { reply(list_result(devices)); }},
         {"sessions", [=](const Json&, Reply reply) { reply(sessions_result(sessions)); }}});
  EXPECT_THAT(
      server({"show", "/dev/ram0"}).out,
      StartsWith("device: /dev/ram0\nsession: blya\nmapping_path: vol1\nstate: draining\n"));
  const Json session = Json::parse(server({"show", "blya", "--json"}).out);
  EXPECT_EQ(session.at("state"), "draining");
  EXPECT_EQ(session.at("devices")[0].at("device"), "/dev/ram0");
  EXPECT_EQ(server({"show", "nobody"}).exit, 4);
  EXPECT_EQ(server({"show"}).exit, 2);
}

}  // namespace
}  // namespace rnbd::control
