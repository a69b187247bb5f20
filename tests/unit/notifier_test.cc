// SPDX-License-Identifier: Apache-2.0
// What a daemon tells who started it, and how it knows him.
#include "common/notifier.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "common/control/daemon_loop.h"
#include "unit/notify_socket.h"

namespace rnbd {
namespace {

using std::chrono::seconds;

class NotifierTest : public testing::Test {
 protected:
  ~NotifierTest() override {
    for (const char* name : {"WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
  }

  static void expect_watchdog(const std::string& usec, int pid) {
    ::setenv("WATCHDOG_USEC", usec.c_str(), 1);
    ::setenv("WATCHDOG_PID", std::to_string(pid).c_str(), 1);
  }

  test::NotifySocket starter_;
};

TEST_F(NotifierTest, TakesWhatIsMeantForItOutOfTheEnvironment) {
  expect_watchdog("30000000", ::getpid());
  auto notifier = Notifier::from_environment();
  ASSERT_TRUE(notifier) << describe(notifier.error());
  EXPECT_TRUE(notifier->listened_to());
  EXPECT_EQ(notifier->watchdog_interval(), seconds(15));
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    EXPECT_EQ(std::getenv(name), nullptr) << name << ": children are not meant";
  }
  EXPECT_TRUE(notifier->tell("STATUS=well"));
  EXPECT_EQ(starter_.next().first, "STATUS=well");
}

TEST_F(NotifierTest, NobodyListeningIsNoError) {
  ::unsetenv("NOTIFY_SOCKET");
  auto notifier = Notifier::from_environment();
  ASSERT_TRUE(notifier);
  EXPECT_FALSE(notifier->listened_to());
  EXPECT_TRUE(notifier->tell("READY=1"));
}

TEST_F(NotifierTest, AnotherProcessesWatchdogIsNotItsOwn) {
  expect_watchdog("30000000", ::getpid() + 1);
  auto notifier = Notifier::from_environment();
  ASSERT_TRUE(notifier);
  EXPECT_FALSE(notifier->watchdog_interval());
}

TEST_F(NotifierTest, AnEnvironmentThatMakesNoSenseIsRefused) {
  for (const char* usec : {"", "soon", "-1", "0", "1", "99999999999999999999"}) {
    expect_watchdog(usec, ::getpid());
    const auto notifier = Notifier::from_environment();
    ASSERT_FALSE(notifier) << usec;
    EXPECT_EQ(notifier.error().code, EINVAL);
  }
  for (const std::string& path : {std::string("relative"), '/' + std::string(200, 'x')}) {
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    const auto notifier = Notifier::from_environment();
    ASSERT_FALSE(notifier) << path;
    EXPECT_EQ(notifier.error().code, EINVAL);
  }
}

TEST_F(NotifierTest, ADaemonsLoopSaysThatItIsReadyAndThenThatItTurns) {
  expect_watchdog("20000", ::getpid());
  auto notifier = Notifier::from_environment();
  ASSERT_TRUE(notifier);
  control::DaemonLoop loop;
  loop.report_to(*notifier);
  // Ends the loop, as systemd does, when it has said enough.
  std::thread reader([this] {
    EXPECT_EQ(starter_.next(seconds(10)).first, "READY=1");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(starter_.next(seconds(10)).first, "WATCHDOG=1");
    ::kill(::getpid(), SIGTERM);
  });
  loop.run([](Executor::Task ended) { ended(); });
  reader.join();
}

TEST_F(NotifierTest, ALoopThatNobodyWatchesSaysOnlyThatItIsReady) {
  auto notifier = Notifier::from_environment();
  ASSERT_TRUE(notifier);
  control::DaemonLoop loop;
  loop.report_to(*notifier);
  std::thread reader([this] {
    EXPECT_EQ(starter_.next(seconds(10)).first, "READY=1");
    ::kill(::getpid(), SIGTERM);
  });
  loop.run([](Executor::Task ended) { ended(); });
  reader.join();
  EXPECT_EQ(starter_.next().first, "");
}

}  // namespace
}  // namespace rnbd
