// SPDX-License-Identifier: Apache-2.0
// The commands about sessions and servers, events, and what all tables have in common.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli_bench.h"
#include "common/control/asio_context.h"
#include "common/control/event_log.h"

namespace rnbd::control {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

Json path_of(const std::string& session, const std::string& path, const std::string& state) {
  return to_json(
      PathEntry{.session = session, .path = path, .state = state, .policy = "min-inflight"});
}

class Sessions : public Cli {
 protected:
  /// A client's daemon with a device that is closed, and a path of three that is connected.
  void serve_trouble() {
    Json list = one_device();
    list["devices"][0]["state"] = "closed";
    Json paths = Json::array({path_of("blya", "ip:10.0.0.1", "connected"),
                              path_of("blya", "ip:10.1.0.1", "waiting"),
                              path_of("other", "ip:10.2.0.1", "disconnected")});
    serve({{"list", [list](const Json&, Reply reply) { reply(list); }},
           {"paths", [paths](const Json&, Reply reply) { reply(paths_result(paths)); }},
           {"remap",
            [this](const Json& args, Reply reply) {
              note("remap " + *read_remap_args(args));
              reply(Json::object());
            }},
           {"path", [this](const Json& args, Reply reply) {
              const PathArgs wanted = *read_path_args(args);
              if (wanted.session == "other") return reply(fail(ETIMEDOUT, "nobody is there"));
              note(wanted.action + ' ' + wanted.session + ' ' + wanted.path);
              reply(Json::object());
            }}});
  }
};

TEST_F(Sessions, AreListedWithWhatBelongsToThem) {
  serve_trouble();
  EXPECT_EQ(client({"session", "list"}).out,
            "SESSION  PATHS  DEVICES  IN FLIGHT  POLICY\n"
            "blya     U_           1          0  min-inflight\n"
            "other    _            0          0  min-inflight\n");
  const Json json = Json::parse(client({"session", "list", "--json"}).out);
  EXPECT_EQ(json.at("sessions")[0].at("paths").size(), 2U);
}

TEST_F(Sessions, AreToldWhatToDo) {
  answer("set", Json::object());
  EXPECT_EQ(client({"session", "set", "all", "on_no_path=fail-after:5"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"words":["on_no_path=fail-after:5"],"session":"all"})");
  EXPECT_EQ(client({"session", "set", "all", "on_no_path=queue", "--temporary"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"words":["on_no_path=queue"],"session":"all","temporary":true})");
  answer("set", fail(ENOENT, "there is no session blyo"));
  EXPECT_EQ(client({"session", "set", "blyo", "mpath_policy=rr"}).exit, 4);
  EXPECT_EQ(client({"session", "set", "blya"}).exit, 2);
  EXPECT_THAT(client({"session", "lits"}).err, HasSubstr("did you mean 'list'?"));
}

TEST_F(Sessions, AreRecoveredAsFarAsTheyCanBe) {
  serve_trouble();
  const Ran ran = client({"recover"});
  EXPECT_EQ(ran.exit, 11);
  EXPECT_THAT(done(), ElementsAre("reconnect blya ip:10.1.0.1", "remap /dev/nbd0"));
  EXPECT_EQ(ran.out, "path blya ip:10.1.0.1\ndevice /dev/nbd0\n");
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("recover: path other ip:10.2.0.1: ETIMEDOUT: nobody is there"),
                    HasSubstr("1 of 3 steps failed")));
}

TEST_F(Sessions, AreRecoveredOneByOne) {
  serve_trouble();
  EXPECT_EQ(client({"recover", "blya"}).exit, 0);
  EXPECT_THAT(done(), ElementsAre("reconnect blya ip:10.1.0.1", "remap /dev/nbd0"));
  EXPECT_EQ(client({"recover", "other"}).exit, 8) << "the only step's";
  EXPECT_EQ(client({"recover", "nobody"}).exit, 4);
  EXPECT_EQ(client({"recover", "-n"}).out,
            "path blya ip:10.1.0.1\npath other ip:10.2.0.1\ndevice /dev/nbd0\n");
  EXPECT_THAT(done(), ElementsAre());
}

TEST_F(Sessions, GetThePathsThatTheTabNames) {
  serve_trouble();
  const std::string option =
      tab("vol1 blya vol1 path=ip:10.0.0.1,path=ip:10.9.0.1\n"
          "vol2 blya vol2 path=ip:10.9.0.1\n"
          "vol3 nobody vol3 path=ip:10.9.0.1\n");
  EXPECT_EQ(client({"recover", "blya", "-n", "--add-missing", option}).out,
            "path blya ip:10.1.0.1\nnew path blya ip:10.9.0.1\ndevice /dev/nbd0\n");
  EXPECT_EQ(client({"recover", "blya", "--add-missing", option}).exit, 0);
  EXPECT_THAT(done(),
              ElementsAre("reconnect blya ip:10.1.0.1", "add blya ip:10.9.0.1", "remap /dev/nbd0"));
}

TEST_F(Sessions, RemapAsksOnce) {
  answer("remap", Json::object());
  EXPECT_EQ(client({"remap", "/dev/nbd3"}).exit, 0);
  EXPECT_EQ(asked().dump(), R"({"device":"/dev/nbd3"})");
  answer("remap", fail(ENOTCONN, "the server of /dev/nbd3 is away"));
  EXPECT_EQ(client({"remap", "/dev/nbd3"}).exit, 7);
  EXPECT_EQ(client({"remap"}).exit, 2);
}

TEST_F(Sessions, DiscoverSaysWhatEachAddressIs) {
  Json servers = Json::array();
  servers.push_back(to_json(ServerEntry{.path = "ip:10.0.0.1",
                                        .state = "reachable",
                                        .local_address = "ip:10.0.0.2",
                                        .queue_depth = 512,
                                        .max_io_bytes = 126976,
                                        .answered_in_us = 4100}));
  answer("discover", servers_result(servers));
  const Ran ran = client({"discover", "server=ip:10.0.0.1"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out,
            "PATH         STATE      FROM         QUEUE DEPTH  MAX IO  ANSWERED IN  LAST ERROR\n"
            "ip:10.0.0.1  reachable  ip:10.0.0.2          512    124K        4.1ms  -\n");
  EXPECT_EQ(asked().dump(), R"({"words":["server=ip:10.0.0.1"]})");
  servers[0] = to_json(
      ServerEntry{.path = "ip:10.0.0.9", .state = "unreachable", .last_error = "ETIMEDOUT: no"});
  answer("discover", servers_result(servers));
  EXPECT_EQ(client({"discover", "server=ip:10.0.0.9", "--json"}).exit, 7);
  EXPECT_EQ(client({"discover"}).exit, 2);
}

TEST_F(Sessions, TablesShowTheColumnsThatAreAskedFor) {
  serve_trouble();
  EXPECT_EQ(client({"list", "-o", "device,state"}).out, "DEVICE     STATE\n/dev/nbd0  closed\n");
  EXPECT_THAT(client({"path", "list", "--output=+policy,-last_error"}).out,
              HasSubstr("RECONNECTS  POLICY\n"));
  const Ran wrong = client({"list", "-o", "colour"});
  EXPECT_EQ(wrong.exit, 2);
  EXPECT_THAT(wrong.err, HasSubstr("there is no column 'colour', but: device, session"));
}

TEST_F(Sessions, AFileGetsNoColours) {
  serve_trouble();
  ::setenv("TERM", "xterm", 1);
  EXPECT_THAT(client({"list"}).out, Not(HasSubstr("\x1b")));
}

/// A daemon with a log of its own.
class Followed : public Cli {
 protected:
  void TearDown() override {
    thread_.run([this] { server_.reset(); });
    thread_.run([this] { log_.reset(); });
  }

  void serve_events() {
    const Status listening = thread_.run([&] {
      context_ = std::make_unique<AsioContext>(thread_.context());
      log_ = std::make_unique<EventLog>(*context_, [] {
        Json now = one_device();
        now["paths"] = Json::array({path_of("blya", "ip:10.0.0.1", "connected")});
        return now;
      });
      server_ = std::make_unique<ControlServer>(thread_.context());
      log_->serve(*server_);
      return server_->listen(socket_);
    });
    ASSERT_TRUE(listening) << describe(listening.error());
  }

  std::unique_ptr<AsioContext> context_;
  std::unique_ptr<EventLog> log_;
};

TEST_F(Followed, EventsBeginWithWhatThereIs) {
  serve_events();
  const Ran ran = client({"events", "--now"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("  path     blya ip:10.0.0.1  connected\n"));
  EXPECT_THAT(ran.out, EndsWith("  device   /dev/nbd0 blya/vol1 1G  open\n"));
  const Json json = Json::parse(server({"events", "--now", "--json"}).out);
  EXPECT_EQ(json.at("event"), "snapshot");
  EXPECT_EQ(json.at("schema_version"), 1);
}

TEST_F(Followed, EventsGoOnUntilThereWereEnough) {
  serve_events();
  std::atomic<bool> over = false;
  std::thread busy([&] {
    while (!over) {
      thread_.run([&] { log_->add("session", {{"session", "blya"}, {"state", "up"}}); });
      std::this_thread::yield();
    }
  });
  const Ran ran = client({"events", "--json", "-n", "3"});
  over = true;
  busy.join();
  EXPECT_EQ(ran.exit, 0) << ran.err;
  std::istringstream lines(ran.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(Json::parse(line).at("event"), "snapshot");
  std::uint64_t number = 0;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(std::getline(lines, line));
    const auto next = Json::parse(line).at("number").get<std::uint64_t>();
    EXPECT_TRUE(i == 0 || next == number + 1) << "a gap";
    number = next;
  }
  EXPECT_FALSE(std::getline(lines, line));
}

TEST_F(Followed, EventsOfADaemonThatDoesNotRunAreNone) {
  const Ran ran = client({"events"});
  EXPECT_EQ(ran.exit, 10);
}

TEST_F(Cli, DoctorSaysThatNoDaemonRuns) {
  const Ran ran = client({"doctor"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_THAT(ran.out, HasSubstr("FAILED   daemon    no daemon listens on"));
  const Json json = Json::parse(server({"doctor", "--json"}).out);
  EXPECT_EQ(json.at("schema_version"), 1);
  EXPECT_EQ(client({"doctor", "--frobnicate"}).exit, 2);
}

}  // namespace
}  // namespace rnbd::control
