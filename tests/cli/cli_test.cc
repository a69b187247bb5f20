// SPDX-License-Identifier: Apache-2.0
// Runs the built commands as scripts do: exit codes, what is on stdout and what is not, JSON. The
// daemon is a control server of this process, on a thread of its own.
#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <spawn.h>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "common/control/server.h"
#include "common/control/verbs.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::control {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct Ran {
  int exit = -1;
  std::string out;
  std::string err;
};

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Json one_device() {
  Json devices = Json::array();
  devices.push_back(
      to_json(DeviceEntry{"/dev/nbd0", "blya", "vol1", "open", "rw", "blockio", 1 << 30, ""}));
  devices[0]["paths"] = Json::array({"ip:10.0.0.1"});
  return list_result(devices);
}

class Cli : public testing::Test {
 protected:
  void TearDown() override {
    thread_.run([this] { server_.reset(); });
  }

  /// A daemon that knows one verb.
  void serve(const std::string& verb, ControlServer::Handler handler) {
    serve({{verb, std::move(handler)}});
  }

  void serve(std::map<std::string, ControlServer::Handler> handlers) {
    const Status listening = thread_.run([&] {
      server_ = std::make_unique<ControlServer>(thread_.context());
      for (auto& [verb, handler] : handlers) server_->handle(verb, std::move(handler));
      return server_->listen(socket_);
    });
    ASSERT_TRUE(listening) << describe(listening.error());
  }

  /// A client's daemon that has one_device() and cannot map "bad"; what it does is in done_.
  void serve_mappings() {
    serve({{"list", [](const Json&, Reply reply) { reply(one_device()); }},
           {"map",
            [this](const Json& args, Reply reply) {
              const auto words = read_map_args(args);
              if (words->at(1) == "device_path=bad") return reply(fail(ENOENT, "no bad here"));
              note("map " + words->at(1));
              reply(map_result("/dev/nbd7"));
            }},
           {"unmap", [this](const Json& args, Reply reply) {
              note("unmap " + read_unmap_args(args)->device);
              reply(Json::object());
            }}});
  }

  void note(const std::string& what) {
    const std::lock_guard lock(mutex_);
    done_.push_back(what);
  }
  std::vector<std::string> done() {
    const std::lock_guard lock(mutex_);
    return std::exchange(done_, {});
  }

  /// A tab, as an option.
  std::string tab(const std::string& text) {
    std::ofstream(directory_ + "/tab") << text;
    return "--tab-file=" + directory_ + "/tab";
  }

  /// A daemon whose `verb` answers `result` and keeps what it was asked in asked().
  void answer(const std::string& verb, Result<Json> result) {
    serve(verb, [this, result = std::move(result)](const Json& args, Reply reply) {
      {
        const std::lock_guard lock(mutex_);
        asked_ = args;
      }
      reply(result);
    });
  }

  Json asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

  /// Runs a program to its end, its output in files.
  Ran run(const char* program, std::vector<std::string> arguments) {
    return run_into(program, std::move(arguments), directory_ + "/out");
  }

  Ran run_into(const char* program, std::vector<std::string> arguments, const std::string& out) {
    const std::string err = directory_ + "/err";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t child = -1;
    const int spawned = ::posix_spawn(&child, program, &actions, nullptr, argv.data(), ::environ);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(spawned, 0);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    const bool file = std::filesystem::is_regular_file(out);
    return {WEXITSTATUS(status), file ? read_all(out) : std::string(), read_all(err)};
  }

  /// rnbd-client, talking to this test's daemon.
  Ran client(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--control", socket_});
    return run(RNBD_CLIENT, std::move(arguments));
  }

  Ran server(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--control", socket_});
    return run(RNBD_SERVER, std::move(arguments));
  }

  test::TempDirectory temporary_;
  std::string directory_ = temporary_.path();
  std::string socket_ = directory_ + "/d.sock";
  std::mutex mutex_;
  Json asked_;
  std::vector<std::string> done_;
  std::unique_ptr<ControlServer> server_;
  test::ControlThread thread_;  ///< last: nothing above dies while it runs
};

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

TEST_F(Cli, MapPrintsTheNodeAndNothingElse) {
  answer("map", map_result("/dev/nbd3"));
  const Ran ran = client({"map", "server=ip:10.0.0.1", "device_path=vol1", "access_mode=ro"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out, "/dev/nbd3\n");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(asked().dump(),
            R"({"words":["server=ip:10.0.0.1","device_path=vol1","access_mode=ro"]})");
}

TEST_F(Cli, MapPassesWordsAsTheyAre) {
  answer("map", map_result("/dev/nbd3"));
  EXPECT_EQ(client({"map", "sessname=a b", "list", "x=[1,2]", "device_path=\"ü\\"}).exit, 0);
  EXPECT_EQ(asked()["words"],
            Json::array({"sessname=a b", "list", "x=[1,2]", "device_path=\"ü\\"}));
}

TEST_F(Cli, FailuresGoToStderrWithTheirExitCode) {
  answer("map", fail(EEXIST, "vol1 already mapped as /dev/nbd0 (session blya)"));
  const Ran ran = client({"map", "server=ip:10.0.0.1", "device_path=vol1"});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, "rnbd-client: map: EEXIST: vol1 already mapped as /dev/nbd0 (session blya)\n");
}

TEST_F(Cli, EveryKindOfFailureHasItsExitCode) {
  constexpr std::array<std::pair<int, int>, 9> kCases = {{{EIO, 1},
                                                          {EINVAL, 2},
                                                          {EEXIST, 3},
                                                          {ENOENT, 4},
                                                          {EBUSY, 5},
                                                          {EPERM, 6},
                                                          {EHOSTUNREACH, 7},
                                                          {ETIMEDOUT, 8},
                                                          {EPROTO, 9}}};
  serve("map", [](const Json& args, Reply reply) {
    reply(fail(std::stoi(args["words"][0].get<std::string>()), "no"));
  });
  for (const auto& [error, exit] : kCases) {
    EXPECT_EQ(client({"map", std::to_string(error)}).exit, exit) << errno_name(error);
  }
}

TEST_F(Cli, AdviceIsALineOfItsOwn) {
  answer("map", fail(ENOSYS, "this kernel has no nbd\nmodprobe nbd"));
  EXPECT_EQ(client({"map", "a=b"}).err,
            "rnbd-client: map: ENOSYS: this kernel has no nbd\nrnbd-client: modprobe nbd\n");
}

TEST_F(Cli, UnmapSaysWhatToUnmapAndHow) {
  answer("unmap", Json::object());
  const Ran ran = client({"unmap", "/dev/nbd3"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(asked().dump(), R"({"device":"/dev/nbd3","force":false})");
  EXPECT_EQ(client({"unmap", "--force", "/dev/nbd4"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"device":"/dev/nbd4","force":true})");
}

TEST_F(Cli, ADaemonThatIsReplacedIsAskedAgain) {
  int asked = 0;
  serve("unmap", [&](const Json&, Reply reply) {
    if (++asked < 3) return reply(fail(kBeingReplaced, "the daemon is being replaced"));
    reply(Json::object());
  });
  const Ran ran = client({"unmap", "/dev/nbd3"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(thread_.run([&] { return asked; }), 3);
}

TEST_F(Cli, OneThatIsReplacedByNobodyIsAskedUntilTheTimeout) {
  bool asked = false;
  std::vector<Reply> kept;
  serve("unmap", [&](const Json&, Reply reply) {
    if (!std::exchange(asked, true)) {
      return reply(fail(kBeingReplaced, "the daemon is being replaced"));
    }
    kept.push_back(std::move(reply));
    boost::asio::post(thread_.context(), [this] { server_.reset(); });
  });
  const Ran ran = client({"unmap", "/dev/nbd3", "--timeout", "0.5"});
  EXPECT_EQ(ran.exit, std::to_underlying(ExitCode::NoDaemon));
  EXPECT_THAT(ran.err, HasSubstr("no daemon listens on"));
  thread_.run([&kept] { kept.clear(); });
}

TEST_F(Cli, GivesUpAfterTheTimeout) {
  std::vector<Reply> kept;
  serve("unmap", [&kept](const Json&, Reply reply) { kept.push_back(std::move(reply)); });
  const Ran ran = client({"unmap", "/dev/nbd3", "--timeout", "0.1"});
  EXPECT_EQ(ran.exit, 8);
  EXPECT_EQ(ran.err,
            "rnbd-client: unmap: ETIMEDOUT: no answer within 0.1 s; the operation goes on\n");
  thread_.run([&kept] { kept.clear(); });
}

TEST_F(Cli, SaysHowToStartTheDaemon) {
  const Ran ran = client({"list"});
  EXPECT_EQ(ran.exit, 10);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, "rnbd-client: list: ENOENT: no daemon listens on " + socket_ +
                         "\nrnbd-client: start it: rnbd-client daemon --control " + socket_ + "\n");
}

TEST_F(Cli, ListIsATable) {
  answer("list", one_device());
  const Ran ran = client({"list"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(
      ran.out,
      "DEVICE     SESSION  MAPPING PATH  STATE  MODE  IO       SIZE  PATHS  FOR  IN FLIGHT\n"
      "/dev/nbd0  blya     vol1          open   rw    blockio    1G  _        -          -\n");
  EXPECT_EQ(client({"list", "--noheaders"}).out,
            "/dev/nbd0  blya  vol1  open  rw  blockio  1G  _  -  -\n");
}

TEST_F(Cli, PathWordsReachTheDaemon) {
  answer("path", Json::object());
  const Ran ran = client({"path", "remove", "blya", "ip:10.0.0.1", "--force"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(asked(), Json({{"action", "remove"},
                           {"session", "blya"},
                           {"path", "ip:10.0.0.1"},
                           {"port", 1234},
                           {"force", true}}));
}

TEST_F(Cli, PathWordsThatMakeNoSenseDoNot) {
  EXPECT_EQ(client({"path"}).exit, 2);
  EXPECT_EQ(client({"path", "remove"}).exit, 2);
  EXPECT_EQ(client({"path", "remove", "blya"}).exit, 2);
  EXPECT_EQ(client({"path", "remove", "blya", "ip:10.0.0.1", "ip:10.0.0.2"}).exit, 2);
  EXPECT_EQ(client({"path", "list", "blya", "bluub"}).exit, 2);
  const Ran ran = client({"path", "darin", "blya", "ip:10.0.0.1"});
  EXPECT_EQ(ran.exit, 2);
  EXPECT_THAT(ran.err, HasSubstr("did you mean 'drain'?"));
}

TEST_F(Cli, PathListIsATableOrJson) {
  Json paths = Json::array();
  paths.push_back(to_json(PathEntry{.session = "blya", .path = "ip:10.0.0.1", .state = "waiting"}));
  answer("paths", paths_result(paths));
  EXPECT_EQ(client({"path", "list", "blya", "--noheaders"}).out,
            "blya  ip:10.0.0.1  waiting  0s  -  0  0  0  -\n");
  EXPECT_EQ(asked(), Json({{"session", "blya"}}));
  EXPECT_EQ(Json::parse(client({"path", "list", "--json"}).out), paths_result(paths));
  answer("paths", Json::object());
  EXPECT_EQ(client({"path", "list"}).exit, 9);
}

TEST_F(Cli, ListJsonPassesOnWhatTheDaemonAdds) {
  answer("list", one_device());
  const Ran ran = client({"list", "--json"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(Json::parse(ran.out), one_device());
}

TEST_F(Cli, ListJsonIsValidWithNothingMapped) {
  answer("list", list_result(Json::array()));
  const Ran ran = client({"list", "--json"});
  EXPECT_EQ(ran.exit, 0);
  const Json json = Json::parse(ran.out);
  EXPECT_EQ(json["schema_version"], 1);
  EXPECT_TRUE(json["devices"].is_array() && json["devices"].empty());
}

TEST_F(Cli, JsonErrorsAreOnStdoutToo) {
  const Ran ran = client({"list", "--json"});
  EXPECT_EQ(ran.exit, 10);
  const Json json = Json::parse(ran.out);
  EXPECT_EQ(json["error"]["code"], "ENOENT");
  EXPECT_EQ(json["error"]["exit"], 10);
  EXPECT_THAT(ran.err, StartsWith("rnbd-client: list: ENOENT:"));
  const Ran usage = client({"list", "--json", "--frobnicate"});
  EXPECT_EQ(usage.exit, 2);
  EXPECT_EQ(Json::parse(usage.out)["error"]["exit"], 2);
}

TEST_F(Cli, ServerListShowsItsClients) {
  Json devices = Json::array();
  devices.push_back(to_json(
      DeviceEntry{"/dev/ram0", "blya", "ram0", "open", "rw", "fileio", 4096, "ip:10.0.0.2"}));
  answer("list", list_result(devices));
  EXPECT_EQ(server({"list"}).out,
            "DEVICE     SESSION  MAPPING PATH  STATE  MODE  IO      SIZE  PATHS  CLIENT\n"
            "/dev/ram0  blya     ram0          open   rw    fileio    4K  -      ip:10.0.0.2\n");
}

TEST_F(Cli, ADaemonThatMakesNoSenseIsAProtocolError) {
  answer("list", Json::array());
  EXPECT_EQ(client({"list"}).exit, 9);
  EXPECT_EQ(client({"map", "a=b"}).exit, 9);  // a verb it does not have
}

TEST_F(Cli, MistakesOnTheCommandLineAreNamed) {
  EXPECT_EQ(client({}).exit, 2);
  const Ran verb = client({"lits"});
  EXPECT_EQ(verb.exit, 2);
  EXPECT_THAT(verb.err,
              StartsWith("rnbd-client: EINVAL: unknown verb 'lits'; did you mean 'list'?"));
  const Ran option = client({"unmap", "/dev/nbd0", "--froce"});
  EXPECT_EQ(option.exit, 2);
  EXPECT_EQ(option.err,
            "rnbd-client: unmap: EINVAL: unknown option '--froce'; did you mean '--force'?\n");
  EXPECT_EQ(client({"unmap"}).exit, 2);
  EXPECT_EQ(client({"unmap", "/dev/nbd0", "/dev/nbd1"}).exit, 2);
  EXPECT_EQ(client({"unmap", "/dev/nbd0", "--timeout", "soon"}).exit, 2);
  EXPECT_EQ(client({"map"}).exit, 2);
  EXPECT_EQ(client({"list", "x"}).exit, 2);
  EXPECT_EQ(client({"map", "device_path=\xff"}).exit, 10);  // asks first whether a daemon is there
}

TEST_F(Cli, WordsThatAreNotTextAreRefused) {
  answer("map", map_result("/dev/nbd3"));
  const Ran ran = client({"map", "device_path=\xff"});
  EXPECT_EQ(ran.exit, 2);
  EXPECT_THAT(ran.err, HasSubstr("not UTF-8"));
}

TEST_F(Cli, HelpAndVersionAreResults) {
  for (const char* program : {RNBD_CLIENT, RNBD_SERVER}) {
    const Ran help = run(program, {"--help"});
    EXPECT_EQ(help.exit, 0);
    EXPECT_THAT(help.out, HasSubstr("list"));
    EXPECT_EQ(help.err, "");
    const Ran version = run(program, {"--version"});
    EXPECT_EQ(version.exit, 0);
    EXPECT_THAT(version.out, StartsWith("rnbd-"));
  }
}

TEST_F(Cli, AFullDiskBehindStdoutIsAnError) {
  answer("map", map_result("/dev/nbd3"));
  const Ran ran = run_into(RNBD_CLIENT, {"map", "a=b", "--control", socket_}, "/dev/full");
  EXPECT_EQ(ran.exit, 1);
  EXPECT_EQ(ran.err, "rnbd-client: map: ENOSPC: cannot write to stdout\n");
}

TEST_F(Cli, AWrongConfigurationHasItsExitCodeAndItsPlace) {
  const std::string config = directory_ + "/server.toml";
  std::ofstream(config) << "port_nr = 1234\nmax_io_sze = 4096\n";
  const Ran ran = server({"daemon", "--config", config});
  EXPECT_EQ(ran.exit, 12);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, "rnbd-server: daemon: EINVAL: " + config +
                         ":2:1: unknown key 'max_io_sze'; did you mean 'max_io_size'?\n");
  std::ofstream(config) << "sess_queue_depth = 4096\n";
  EXPECT_EQ(server({"daemon", "--config", config}).exit, 12);
  EXPECT_EQ(server({"daemon", "--config", directory_ + "/none"}).exit, 12);
}

TEST_F(Cli, WrongDaemonOptionsAreMistakesOnTheCommandLine) {
  const Ran depth = server({"daemon", "--sess-queue-depth", "0"});
  EXPECT_EQ(depth.exit, 2);
  EXPECT_THAT(depth.err, EndsWith("sess_queue_depth must be 1 to 65535, not 0\n"));
  EXPECT_EQ(server({"daemon", "--port-nr", "65536"}).exit, 2);
  EXPECT_EQ(server({"daemon", "--always-invalidate", "maybe"}).exit, 2);
  EXPECT_EQ(server({"daemon", "--max-io-size", "5000"}).exit, 2);
  EXPECT_EQ(server({"daemon", "--sess-queue-depth", "4096"}).exit, 2);
  EXPECT_EQ(server({"daemon", "--dev-search-path", "exports"}).exit, 2);
  EXPECT_EQ(client({"daemon", "--log-level", "loud"}).exit, 2);
}

}  // namespace
}  // namespace rnbd::control
