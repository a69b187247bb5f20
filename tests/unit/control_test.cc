// SPDX-License-Identifier: Apache-2.0
// The control socket over a real socket in a directory of its own: what is said, who may listen,
// and clients that misbehave. The server runs on a thread like the daemons' control thread.
#include <atomic>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/control/client.h"
#include "common/control/listen_socket.h"
#include "common/control/server.h"
#include "common/control/sockets.h"
#include "common/control/verbs.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::control {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto kBound = 10s;  // of every wait: long past what a healthy run needs

class Control : public testing::Test {
 protected:
  void SetUp() override { start(); }

  void TearDown() override {
    thread_.run([this] {
      kept_.clear();
      server_.reset();
    });
  }

  void start() {
    const Status listening = thread_.run([this] {
      server_ = std::make_unique<ControlServer>(thread_.context());
      server_->handle("echo", [](const Json& args, Reply reply) { reply(args); });
      server_->handle("fail", [](const Json&, Reply reply) {
        reply(fail(EEXIST, "already there\nremove it"));
      });
      server_->handle("keep", [this](const Json&, Reply reply) {
        kept_.push_back(std::move(reply));
        ++keeping_;
      });
      server_->handle("drop", [](const Json&, const Reply&) {});
      server_->handle("huge", [](const Json&, Reply reply) {
        reply(Json{{"text", std::string(kMaxReplyLine, 'x')}});
      });
      return server_->listen(path_);
    });
    ASSERT_TRUE(listening) << describe(listening.error());
  }

  Client connect() {
    auto client = Client::connect(address());
    return std::move(client.value());  // throws, and so fails the test, if there is none
  }

  DaemonAddress address() { return {"rnbd-client", path_, kClientSocket}; }

  Outcome call(const std::string& verb, Json args = Json::object()) {
    auto client = Client::connect(address());
    if (!client) return std::unexpected(client.error());
    return client->call({verb, std::move(args)}, kBound);
  }

  static void send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return;  // the server has hung up, as some tests want
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  static std::string read_line(int fd) {
    std::string line;
    char byte = 0;
    while (::recv(fd, &byte, 1, 0) == 1 && byte != '\n') line += byte;
    return line;
  }

  template <typename Condition>
  static bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + kBound;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(1ms);
    }
    return true;
  }

  std::size_t clients() {
    return thread_.run([this] { return server_->clients(); });
  }

  test::TempDirectory temporary_;
  std::string directory_ = temporary_.path();
  std::string path_ = directory_ + "/d.sock";
  std::vector<Reply> kept_;  ///< control thread's
  std::atomic<int> keeping_ = 0;
  std::unique_ptr<ControlServer> server_;
  test::ControlThread thread_;  ///< last: nothing above dies while it runs
};

TEST(Messages, RequestsSurviveTheWire) {
  const std::vector<std::string> words = {"server=ip:1.2.3.4", "device_path=a \"b\"\n\\ü"};
  const auto line = encode({kMapVerb, map_args(words)});
  ASSERT_TRUE(line);
  EXPECT_EQ(line->find('\n'), line->size() - 1);
  const auto request = decode_request(std::string_view(*line).substr(0, line->size() - 1));
  ASSERT_TRUE(request);
  EXPECT_EQ(request->verb, "map");
  EXPECT_EQ(read_map_args(request->args), words);
}

TEST(Messages, HaveTheDocumentedForm) {
  EXPECT_EQ(encode(Request{"list", Json::object()}), "{\"verb\":\"list\",\"args\":{}}\n");
  EXPECT_EQ(encode(Outcome(map_result("/dev/nbd0"))),
            "{\"ok\":true,\"result\":{\"device\":\"/dev/nbd0\"}}\n");
  EXPECT_EQ(encode(Outcome(std::unexpect, to_failure({EEXIST, "is there\ndo this"}))),
            "{\"ok\":false,\"error\":{\"code\":\"EEXIST\",\"errno\":17,\"exit\":3,"
            "\"message\":\"is there\",\"hint\":\"do this\"}}\n");
  EXPECT_EQ(list_result(Json::array()).dump(), "{\"schema_version\":1,\"devices\":[]}");
  EXPECT_EQ(to_json(UnmapArgs{"/dev/nbd0", true}).dump(),
            "{\"device\":\"/dev/nbd0\",\"force\":true}");
  EXPECT_EQ(to_json(DeviceEntry{"/dev/nbd0", "s", "v", "open", "rw", "blockio", 7, ""}).dump(),
            "{\"device\":\"/dev/nbd0\",\"session\":\"s\",\"mapping_path\":\"v\",\"state\":\"open\","
            "\"access_mode\":\"rw\",\"io_mode\":\"blockio\",\"size_bytes\":7}");
}

TEST(Messages, RefuseGarbageByName) {
  for (const char* line : {"", "x", "[]", "42", "null", "{", "{}", "{\"verb\":1}",
                           "{\"verb\":\"\"}", "{\"verb\":\"map\",\"args\":[]}",
                           "{\"verb\":\"map\"} x", "{\"verb\":\"\xff\"}", "{\"verb\":1e999}"}) {
    const auto request = decode_request(line);
    ASSERT_FALSE(request) << line;
    EXPECT_EQ(request.error().code, EINVAL) << line;
    EXPECT_FALSE(request.error().message.empty()) << line;
  }
  EXPECT_FALSE(decode_request(std::string(60000, '[')));
}

TEST(Messages, RefuseWordsThatCannotBeSent) {
  EXPECT_EQ(encode(Request{"map", {{"words", {"\xff"}}}}).error().code, EINVAL);
  EXPECT_EQ(encode(Request{"map", {{"words", {std::string(kMaxRequestLine, 'x')}}}}).error().code,
            EMSGSIZE);
}

TEST(Messages, FailuresSurviveTheWire) {
  const auto line = encode(Outcome(std::unexpect, to_failure({EBUSY, "in use"})));
  const auto outcome = decode_reply(line);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.code, EBUSY);
  EXPECT_EQ(outcome.error().exit, ExitCode::Busy);
  EXPECT_EQ(outcome.error().error.message, "in use");
}

TEST(Messages, DoNotTrustTheDaemon) {
  for (const char* line :
       {"", "x", "[]", "{}", "{\"ok\":1}", "{\"ok\":false}", "{\"ok\":false,\"error\":3}"}) {
    const auto outcome = decode_reply(line);
    ASSERT_FALSE(outcome) << line;
    EXPECT_EQ(outcome.error().exit, ExitCode::Protocol) << line;
  }
  const auto odd = decode_reply(R"({"ok":false,"error":{"errno":-7,"exit":99,"message":[]}})");
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().error.code, EIO);
  EXPECT_EQ(odd.error().exit, ExitCode::Generic);
  EXPECT_EQ(read_map_result(Json::parse("{\"device\":3}")).error().code, EPROTO);
  EXPECT_EQ(read_map_result(Json::parse("[]")).error().code, EPROTO);
  EXPECT_FALSE(check_list_result(Json::parse("[]")));
  EXPECT_FALSE(check_list_result(Json::parse("{\"devices\":[1]}")));
  EXPECT_TRUE(check_list_result(list_result(Json::array())));
}

TEST(Messages, DoNotTrustTheCommand) {
  for (const char* args : {"{}", "{\"words\":3}", "{\"words\":[3]}"}) {
    EXPECT_EQ(read_map_args(Json::parse(args)).error().code, EINVAL) << args;
  }
  for (const char* args : {"{}", "{\"device\":3}", "{\"device\":\"x\",\"force\":1}"}) {
    EXPECT_EQ(read_unmap_args(Json::parse(args)).error().code, EINVAL) << args;
  }
  EXPECT_FALSE(read_unmap_args(Json::parse("{\"device\":\"x\"}"))->force);
}

TEST(ExitCodes, AreStable) {
  EXPECT_EQ(exit_code(EINVAL), ExitCode{2});
  EXPECT_EQ(exit_code(EEXIST), ExitCode{3});
  EXPECT_EQ(exit_code(ENOENT), ExitCode{4});
  EXPECT_EQ(exit_code(ENXIO), ExitCode{4});
  EXPECT_EQ(exit_code(EBUSY), ExitCode{5});
  EXPECT_EQ(exit_code(EPERM), ExitCode{6});
  EXPECT_EQ(exit_code(EHOSTUNREACH), ExitCode{7});
  EXPECT_EQ(exit_code(ECONNREFUSED), ExitCode{7});
  EXPECT_EQ(exit_code(ENODEV), ExitCode{7});
  EXPECT_EQ(exit_code(ETIMEDOUT), ExitCode{8});
  EXPECT_EQ(exit_code(EPROTO), ExitCode{9});
  EXPECT_EQ(static_cast<int>(ExitCode::NoDaemon), 10);
  EXPECT_EQ(static_cast<int>(ExitCode::ConfigInvalid), 12);
  EXPECT_EQ(exit_code(EIO), ExitCode{1});
}

TEST_F(Control, AnswersAndSaysWhatFailed) {
  const auto echoed = call("echo", {{"a", 1}});
  ASSERT_TRUE(echoed);
  EXPECT_EQ((*echoed)["a"], 1);
  const auto failed = call("fail");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().error.code, EEXIST);
  EXPECT_EQ(failed.error().error.message, "already there");
  EXPECT_EQ(failed.error().hint, "remove it");
  EXPECT_EQ(failed.error().exit, ExitCode::Exists);
}

TEST_F(Control, TakesManyRequestsOnOneConnection) {
  Client client = connect();
  for (int i = 0; i < 100; ++i) {
    const auto outcome = client.call({"echo", {{"i", i}}}, kBound);
    ASSERT_TRUE(outcome);
    EXPECT_EQ((*outcome)["i"], i);
  }
}

TEST_F(Control, TellsAnUnknownVerbFromABadRequest) {
  const auto outcome = call("frobnicate");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::Protocol);
  EXPECT_THAT(outcome.error().error.message, HasSubstr("frobnicate"));
}

TEST_F(Control, AnswersGarbageAndGoesOn) {
  const auto socket = connect_to(path_, 5);
  ASSERT_TRUE(socket);
  send_all(socket->get(), "\x01\x02 what?\n{\"verb\":\"echo\"}\n");
  EXPECT_THAT(read_line(socket->get()), HasSubstr("\"code\":\"EINVAL\""));
  EXPECT_EQ(read_line(socket->get()), "{\"ok\":true,\"result\":{}}");
}

TEST_F(Control, PutsHalfLinesTogether) {
  const auto socket = connect_to(path_, 5);
  ASSERT_TRUE(socket);
  for (const char byte : std::string_view("{\"verb\":\"echo\",\"args\":{\"a\":[1,2]}}\n")) {
    send_all(socket->get(), {&byte, 1});
    // Another client's answer comes only after the server has read what it got so far.
    if (byte == ':') {
      ASSERT_TRUE(call("echo"));
    }
  }
  EXPECT_EQ(read_line(socket->get()), "{\"ok\":true,\"result\":{\"a\":[1,2]}}");
}

TEST_F(Control, AnswersPipelinedRequestsInOrder) {
  const auto socket = connect_to(path_, 5);
  ASSERT_TRUE(socket);
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests += "{\"verb\":\"echo\",\"args\":{\"i\":" + std::to_string(i) + "}}\n";
  }
  send_all(socket->get(), requests);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(read_line(socket->get()),
              "{\"ok\":true,\"result\":{\"i\":" + std::to_string(i) + "}}");
  }
}

TEST_F(Control, AnswersAClientThatOnlyListensOn) {
  const auto socket = connect_to(path_, 5);
  ASSERT_TRUE(socket);
  send_all(socket->get(), "{\"verb\":\"echo\"}\n");
  ::shutdown(socket->get(), SHUT_WR);
  EXPECT_EQ(read_line(socket->get()), "{\"ok\":true,\"result\":{}}");
}

TEST_F(Control, HangsUpOnALineWithoutEnd) {
  const auto socket = connect_to(path_, 5);
  ASSERT_TRUE(socket);
  send_all(socket->get(), std::string(2 * kMaxRequestLine, 'x'));
  EXPECT_THAT(read_line(socket->get()), HasSubstr("65536 bytes"));
  EXPECT_EQ(read_line(socket->get()), "");
  EXPECT_TRUE(eventually([this] { return clients() == 0; }));
}

TEST_F(Control, TakesTheLongestRequest) {
  const std::string frame = R"({"verb":"echo","args":{"t":""}})";
  const std::string text(kMaxRequestLine - frame.size() - 1, 'x');
  const auto outcome = call("echo", {{"t", text}});
  ASSERT_TRUE(outcome) << outcome.error().error.message;
  EXPECT_EQ((*outcome)["t"], text);
  EXPECT_FALSE(call("echo", {{"t", text + 'x'}}));
}

TEST_F(Control, RefusesToAnswerWithoutBound) {
  const auto outcome = call("huge");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.code, EMSGSIZE);
}

TEST_F(Control, AnswersLateAndMeanwhileOthers) {
  Client waiting = connect();
  auto late = std::async(std::launch::async, [&] { return waiting.call({"keep"}, kBound); });
  ASSERT_TRUE(eventually([this] { return keeping_ == 1; }));
  EXPECT_TRUE(call("echo"));
  thread_.run([this] { std::exchange(kept_, {}).front()(map_result("/dev/nbd7")); });
  const auto outcome = late.get();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(read_map_result(*outcome), "/dev/nbd7");
}

TEST_F(Control, SaysThatARequestWasDropped) {
  const auto outcome = call("drop");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.code, ECANCELED);
}

TEST_F(Control, SurvivesClientsThatLeaveBeforeTheirAnswer) {
  {
    const auto socket = connect_to(path_, 5);
    ASSERT_TRUE(socket);
    send_all(socket->get(), "{\"verb\":\"keep\"}\n");
    ASSERT_TRUE(eventually([this] { return keeping_ == 1; }));
  }
  thread_.run([this] { std::exchange(kept_, {}).front()(Json::object()); });
  EXPECT_TRUE(eventually([this] { return clients() == 0; }));
  EXPECT_TRUE(call("echo"));
}

TEST_F(Control, SurvivesRepliesThatOutliveTheServer) {
  Client waiting = connect();
  auto late = std::async(std::launch::async, [&] { return waiting.call({"keep"}, kBound); });
  ASSERT_TRUE(eventually([this] { return keeping_ == 1; }));
  thread_.run([this] { server_.reset(); });
  const auto outcome = late.get();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::NoDaemon);
  thread_.run([this] { std::exchange(kept_, {}).front()(Json::object()); });
}

TEST_F(Control, ServesManyClientsAtOnce) {
  std::vector<std::future<bool>> all;
  for (int i = 0; i < 32; ++i) {
    all.push_back(std::async(std::launch::async, [this, i] {
      Client client = connect();
      for (int j = 0; j < 20; ++j) {
        const auto outcome = client.call({"echo", {{"i", i}, {"j", j}}}, kBound);
        if (!outcome || (*outcome)["i"] != i || (*outcome)["j"] != j) return false;
      }
      return true;
    }));
  }
  for (auto& one : all) EXPECT_TRUE(one.get());
  EXPECT_TRUE(eventually([this] { return clients() == 0; }));
}

TEST_F(Control, LetsClientsBeyondTheLimitWaitForAPlace) {
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 256; ++i) {
    auto socket = connect_to(path_, 5);
    ASSERT_TRUE(socket);
    idle.push_back(std::move(*socket));
    // The kernel's queue is shorter than that: let the server take some.
    if (i % 32 == 31) {
      ASSERT_TRUE(eventually([&] { return clients() == idle.size(); }));
    }
  }
  Client waiting = connect();
  auto late = std::async(std::launch::async, [&] { return waiting.call({"echo"}, kBound); });
  EXPECT_EQ(late.wait_for(50ms), std::future_status::timeout);
  idle.pop_back();
  EXPECT_TRUE(late.get());
}

TEST_F(Control, GivesUpWaitingInTime) {
  Client client = connect();
  const auto outcome = client.call({"keep"}, 20ms);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.code, ETIMEDOUT);
  EXPECT_EQ(outcome.error().exit, ExitCode::TimedOut);
  EXPECT_THAT(outcome.error().error.message, HasSubstr("0.02 s"));
}

TEST_F(Control, SaysHowToStartADaemonThatIsNotThere) {
  const auto elsewhere = Client::connect({"rnbd-client", directory_ + "/none", path_});
  ASSERT_FALSE(elsewhere);
  EXPECT_EQ(elsewhere.error().exit, ExitCode::NoDaemon);
  EXPECT_EQ(elsewhere.error().hint,
            "start it: rnbd-client daemon --control " + directory_ + "/none");
  const auto usual = Client::connect({"rnbd-server", directory_ + "/none", directory_ + "/none"});
  ASSERT_FALSE(usual);
  EXPECT_THAT(usual.error().hint, HasSubstr("systemctl start rnbd-server"));
  EXPECT_THAT(usual.error().hint, HasSubstr("rnbd-server daemon"));
}

TEST_F(Control, RemovesItsSocketWhenItEnds) {
  ASSERT_TRUE(std::filesystem::exists(path_));
  thread_.run([this] { server_.reset(); });
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(Control, LeavesASuccessorsSocketAlone) {
  std::filesystem::remove(path_);
  auto old = std::move(server_);
  start();
  thread_.run([&old] { old.reset(); });
  EXPECT_TRUE(call("echo"));
}

TEST_F(Control, RefusesAPathOnWhichADaemonLives) {
  const auto second = listen_at(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().message, HasSubstr("already listens"));
  EXPECT_TRUE(call("echo"));
}

TEST_F(Control, ReplacesASocketThatNobodyAnswers) {
  const std::string stale = directory_ + "/stale.sock";
  {
    ASSERT_TRUE(listen_at(stale));
  }  // closed, but its file stays
  ASSERT_TRUE(std::filesystem::exists(stale));
  ASSERT_TRUE(listen_at(stale));
}

TEST_F(Control, LetsOneOfManyThatStartTogetherListen) {
  constexpr int kStarters = 4;
  const std::string stale = directory_ + "/stale.sock";
  // Rounds, because without the lock only some go wrong.
  for (int round = 0; round < 500; ++round) {
    {
      ASSERT_TRUE(listen_at(stale));
    }
    std::barrier together(kStarters);
    std::vector<std::future<Result<UniqueFd>>> all;
    for (int i = 0; i < kStarters; ++i) {
      all.push_back(std::async(std::launch::async, [&] {
        together.arrive_and_wait();
        return listen_at(stale);
      }));
    }
    std::vector<UniqueFd> winners;  // kept open, so that losers meet a living daemon
    for (auto& one : all) {
      if (auto result = one.get()) winners.push_back(std::move(*result));
    }
    ASSERT_EQ(winners.size(), 1U) << "round " << round;
    ASSERT_TRUE(connect_to(stale, 1)) << "round " << round;
  }
}

TEST_F(Control, TouchesNothingThatIsNoSocket) {
  const std::string file = directory_ + "/file";
  std::ofstream(file) << "precious";
  const auto result = listen_at(file);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, EEXIST);
  EXPECT_EQ(std::filesystem::file_size(file), 8U);
}

TEST_F(Control, SetsModesWhateverTheUmask) {
  const mode_t old = ::umask(077);
  const std::string path = directory_ + "/new/d.sock";
  const auto socket = listen_at(path);
  ::umask(old);
  ASSERT_TRUE(socket) << describe(socket.error());
  struct stat found{};
  ASSERT_EQ(::stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777U, 0660U);
  ASSERT_EQ(::stat((directory_ + "/new").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777U, 0755U);
}

TEST_F(Control, RefusesPathsThatNoSocketCanHave) {
  EXPECT_EQ(listen_at(directory_ + "/" + std::string(108, 'x')).error().code, ENAMETOOLONG);
  EXPECT_EQ(listen_at("").error().code, EINVAL);
  EXPECT_EQ(listen_at(directory_ + "/a/b/d.sock").error().code, ENOENT);
}

}  // namespace
}  // namespace rnbd::control
