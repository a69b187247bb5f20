// SPDX-License-Identifier: Apache-2.0
// The commands by themselves: words, errors and their exit codes, list and path.
#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli_bench.h"

namespace rnbd::control {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

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

TEST_F(Cli, MetricsAreOfThisHostAlone) {
  // Where no daemon can start, should it want to.
  socket_ = directory_ + "/none/none/d.sock";
  for (const char* address : {"0.0.0.0:9871", "10.0.0.1:9871", "[::]:9871", "[fd09::1]:9871"}) {
    for (const Ran& ran : {client({"daemon", "--metrics-listen", address}),
                           server({"daemon", "--metrics-listen", address})}) {
      EXPECT_EQ(ran.exit, 2) << address;
      EXPECT_THAT(ran.err, HasSubstr("EINVAL: metrics_listen takes addresses of the loopback alone "
                                     "(127.0.0.1:PORT, [::1]:PORT or unix:/PATH), not '" +
                                     std::string(address) + "'"));
    }
  }
  for (const char* address : {"9871", "localhost:9871", "127.0.0.1", "127.0.0.1:0", "::1:9871",
                              "[127.0.0.1]:9871", "unix:metrics", "127.0.0.1:65536"}) {
    const Ran ran = client({"daemon", "--metrics-listen", address});
    EXPECT_EQ(ran.exit, 2) << address;
    EXPECT_THAT(ran.err, HasSubstr("metrics_listen must be 127.0.0.1:PORT")) << address;
  }
  const std::string config = directory_ + "/server.toml";
  std::ofstream(config) << "metrics_listen = \"0.0.0.0:9871\"\n";
  const Ran file = server({"daemon", "--config", config});
  EXPECT_EQ(file.exit, 12);
  EXPECT_THAT(file.err,
              HasSubstr(config + ":1:18: metrics_listen takes addresses of the loopback"));
}

TEST_F(Cli, SpinIsATimeInMicroseconds) {
  for (const Ran& ran :
       {client({"daemon", "--spin-us", "-1"}), server({"daemon", "--spin-us", "-1"})}) {
    EXPECT_EQ(ran.exit, 2);
    EXPECT_THAT(ran.err, EndsWith("spin_us must be 0 to 100000, not -1\n"));
  }
}

TEST_F(Cli, SlowIsATimeInMilliseconds) {
  EXPECT_EQ(client({"daemon", "--slow-io-ms", "-1"}).exit, 2);
  EXPECT_THAT(client({"daemon", "--slow-io-ms", "3600001"}).err,
              EndsWith("slow_io_ms must be 0 to 3600000, not 3600001\n"));
  EXPECT_THAT(server({"daemon", "--slow-io-ms", "3600001"}).err,
              EndsWith("slow_io_ms must be 0 to 3600000, not 3600001\n"));
}

}  // namespace
}  // namespace rnbd::control
