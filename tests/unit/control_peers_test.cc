// SPDX-License-Identifier: Apache-2.0
// Both ends of the control socket where the other one, or the system, lets them down.
#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <string>
#include <thread>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/control/client.h"
#include "common/control/listen_socket.h"
#include "common/control/server.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::control {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto kLongestWait = 10s;

class ControlPeers : public testing::Test {
 protected:
  std::expected<Client, Failure> connect() {
    return Client::connect({"rnbd-client", path_, "/none"});
  }

  test::TempDirectory temporary_;
  std::string path_ = temporary_.path().string() + "/d.sock";
};

/// A daemon that is none: what happens to its one client is up to the test.
class FalseDaemon : public ControlPeers {
 protected:
  ~FalseDaemon() override {
    if (thread_.joinable()) thread_.join();
  }
  void serve(std::function<void(UniqueFd)> answer) {
    auto listening = listen_at(path_);
    ASSERT_TRUE(listening);
    ASSERT_EQ(::fcntl(listening->get(), F_SETFL, 0), 0);
    thread_ = std::thread([socket = std::move(*listening), answer = std::move(answer)] {
      answer(UniqueFd(::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    });
  }
  static void read_some(const UniqueFd& client, std::size_t bytes) {
    std::string buffer(bytes, '\0');
    EXPECT_GT(::recv(client.get(), buffer.data(), buffer.size(), 0), 0);
  }

 private:
  std::thread thread_;
};

TEST_F(FalseDaemon, ThatEndsBeforeItAnswersHasGoneAway) {
  serve([](const UniqueFd& client) { read_some(client, 4096); });
  auto client = connect();
  ASSERT_TRUE(client);
  const auto outcome = client->call({"echo"}, kLongestWait);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::NoDaemon);
  EXPECT_THAT(outcome.error().error.message, HasSubstr("went away before it answered"));
  EXPECT_THAT(outcome.error().hint, HasSubstr("journalctl -u rnbd-client"));
}

TEST_F(FalseDaemon, ThatEndsInTheMiddleOfARequestHasGoneAway) {
  // What it has not read makes its end a reset.
  serve([](const UniqueFd& client) { read_some(client, 1); });
  auto client = connect();
  ASSERT_TRUE(client);
  const auto outcome = client->call({"echo"}, kLongestWait);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::NoDaemon);
  EXPECT_EQ(outcome.error().error.code, ECONNRESET);
}

TEST_F(FalseDaemon, ThatHasEndedTakesNoRequest) {
  serve([](const UniqueFd& client) {
    read_some(client, 4096);
    const std::string_view answer = "{\"ok\":true,\"result\":{}}\n";
    EXPECT_EQ(::send(client.get(), answer.data(), answer.size(), 0), std::ssize(answer));
  });
  auto client = connect();
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->call({"echo"}, kLongestWait));
  // It may still be about to end while this is sent; the next one cannot be.
  Outcome outcome = client->call({"echo"}, kLongestWait);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::NoDaemon);
  outcome = client->call({"echo"}, kLongestWait);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.code, EPIPE);
}

TEST_F(FalseDaemon, ThatNeverEndsItsLineIsNotListenedToForEver) {
  serve([](const UniqueFd& client) {
    const std::string noise(65536, 'x');
    while (::send(client.get(), noise.data(), noise.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  auto client = connect();
  ASSERT_TRUE(client);
  const auto outcome = client->call({"echo"}, kLongestWait);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.code, EPROTO);
  EXPECT_EQ(outcome.error().exit, ExitCode::Protocol);
  EXPECT_THAT(outcome.error().error.message, HasSubstr("has no end"));
  client = std::unexpected(Failure{});  // or the daemon would go on
}

TEST_F(FalseDaemon, ThatIsSlowIsWaitedForAndTheWaitingIsTold) {
  serve([](const UniqueFd& client) { read_some(client, 4096), read_some(client, 4096); });
  auto client = connect();
  ASSERT_TRUE(client);
  int told = 0;
  const auto outcome = client->call({"echo"}, 50ms, [&] { ++told; });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::TimedOut);
  EXPECT_GE(told, 1);
  static_cast<void>(client->call({"echo"}, kLongestWait));
}

TEST_F(ControlPeers, WhatIsNoTextIsNotSent) {
  auto listening = listen_at(path_);
  ASSERT_TRUE(listening);
  auto client = connect();
  ASSERT_TRUE(client);
  const auto outcome = client->call({"map", {{"words", {"\xff"}}}}, kLongestWait);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().exit, ExitCode::Usage);
}

TEST_F(ControlPeers, APathThatNoSocketCanHaveIsAMistakeOfItsOwn) {
  path_ = std::string(200, 'x');
  const auto client = connect();
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().error.code, ENAMETOOLONG);
  EXPECT_NE(client.error().exit, ExitCode::NoDaemon);
}

/// Allows no more descriptors than there are, and one.
class ScarceDescriptors {
 public:
  ScarceDescriptors() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const UniqueFd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit scarce = before_;
    scarce.rlim_cur = static_cast<rlim_t>(next.get()) + 1;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &scarce), 0);
  }
  ~ScarceDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  ScarceDescriptors(const ScarceDescriptors&) = delete;
  ScarceDescriptors& operator=(const ScarceDescriptors&) = delete;

 private:
  rlimit before_{};
};

/// UndefinedBehaviorSanitizer, which is there with this one, looks at types by way of a pipe.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RNBD_NEEDS_DESCRIPTORS 1
#endif
#endif

TEST_F(ControlPeers, AServerWithoutDescriptorsServesWhoComesWhenItHasSomeAgain) {
#ifdef RNBD_NEEDS_DESCRIPTORS
  GTEST_SKIP() << "a sanitizer needs descriptors of its own";
#endif
  test::ControlThread thread;
  std::unique_ptr<ControlServer> server;
  const Status listening = thread.run([&] {
    server = std::make_unique<ControlServer>(thread.context());
    server->handle("echo", [](const Json& args, Reply reply) { reply(args); });
    return server->listen(path_);
  });
  ASSERT_TRUE(listening);
  std::expected<Client, Failure> client = std::unexpected(Failure{});
  {
    const ScarceDescriptors scarce;
    client = connect();
    ASSERT_TRUE(client);
    // The thread looks at its sockets between any two tasks.
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(thread.run([&] { return server->clients(); }), 0U);
    }
  }
  EXPECT_TRUE(client->call({"echo"}, kLongestWait));
  thread.run([&] { server.reset(); });
}

}  // namespace
}  // namespace rnbd::control
