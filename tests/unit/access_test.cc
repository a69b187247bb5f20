// SPDX-License-Identifier: Apache-2.0
// Who may ask a daemon for what: by the rule, and as another user over a real socket.
#include "common/control/access.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <expected>
#include <future>
#include <grp.h>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/control/admin_verbs.h"
#include "common/control/client.h"
#include "common/control/server.h"
#include "common/control/sockets.h"
#include "common/control/stats_reset.h"
#include "common/control/verbs.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::control {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kNobody = 65534;
constexpr auto kChanging = {kMapVerb,        kUnmapVerb,  kPathVerb,     kResizeVerb, kSessionVerb,
                            kRevalidateVerb, kRemapVerb,  kDiscoverVerb, kSetVerb,    kUpgradeVerb,
                            kReloadVerb,     kExportVerb, kDrainVerb,    kResetVerb};
constexpr auto kReading = {kListVerb,     kPathsVerb,  kStatsVerb,
                           kSessionsVerb, kEventsVerb, kExportsVerb};

/// Runs `task` on a thread that acts as another user, in no group of root's. Only that thread does:
/// the system calls are asked for directly.
template <typename Task>
auto as_user(uid_t user, Task task) {
  return std::async(std::launch::async,
                    [&] {
                      const auto done = [](long result) {
                        ASSERT_EQ(result, 0) << std::strerror(errno);
                      };
                      done(::syscall(SYS_setgroups, 0, nullptr));
                      done(::syscall(SYS_setresgid, kNobody, kNobody, kNobody));
                      done(::syscall(SYS_setresuid, user, user, user));
                      return task();
                    })
      .get();
}

TEST(Access, RootAndTheDaemonsUserMayAskForAll) {
  for (const uid_t user : {uid_t{0}, ::geteuid()}) {
    for (const auto* verb : kChanging) EXPECT_TRUE(check_access({.user = user}, verb)) << verb;
    for (const auto* verb : kReading) EXPECT_TRUE(check_access({.user = user}, verb)) << verb;
  }
}

TEST(Access, OthersMayLook) {
  for (const auto* verb : kReading)
    EXPECT_TRUE(check_access({.user = ::geteuid() + 1}, verb)) << verb;
}

TEST(Access, OthersMayChangeNothing) {
  for (const auto* verb : kChanging) {
    const Status allowed = check_access({.user = ::geteuid() + 1}, verb);
    ASSERT_FALSE(allowed) << verb;
    EXPECT_EQ(allowed.error().code, EACCES);
  }
}

TEST(Access, WhatIsNotKnownIsNotOpen) { EXPECT_FALSE(only_reads("brandnew")); }

class AccessToServer : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can act as another user";
    const Status listening = thread_.run([this] {
      server_ = std::make_unique<ControlServer>(thread_.context());
      for (const auto* verb : {kListVerb, kUnmapVerb}) {
        server_->handle(verb, [this](const Json&, Reply reply) {
          ++handled_;
          reply(Json{{"done", true}});
        });
      }
      return server_->listen(path_);
    });
    ASSERT_TRUE(listening) << describe(listening.error());
  }

  void TearDown() override {
    thread_.run([this] { server_.reset(); });
  }

  /// Lets anybody connect, as the kernel lets members of the group.
  void open_to_all() {
    ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
    ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  }

  std::expected<Client, Failure> connect_as(uid_t user) {
    return as_user(user, [this] { return Client::connect({"rnbd-client", path_, kClientSocket}); });
  }

  test::TempDirectory directory_;
  std::string path_ = (directory_.path() / "d.sock").string();
  int handled_ = 0;  ///< control thread's
  std::unique_ptr<ControlServer> server_;
  test::ControlThread thread_;
};

TEST_F(AccessToServer, AnotherUserLooksAndIsRefusedWhatChanges) {
  open_to_all();
  auto client = connect_as(kNobody);
  ASSERT_TRUE(client) << describe(client.error().error);
  EXPECT_TRUE(client->call({kListVerb, Json::object()}, 10s));
  const Outcome refused = client->call({kUnmapVerb, Json::object()}, 10s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error.code, EACCES);
  EXPECT_EQ(refused.error().exit, ExitCode::Refused);
  EXPECT_THAT(refused.error().hint, testing::HasSubstr("root"));
  EXPECT_EQ(thread_.run([this] { return handled_; }), 1);
  // One refusal does not end the connection.
  EXPECT_TRUE(client->call({kListVerb, Json::object()}, 10s));
}

TEST_F(AccessToServer, ReadersLeaveAPlaceForRoot) {
  open_to_all();
  std::vector<Client> readers;
  for (int i = 0; i < 300; ++i) {
    auto reader = connect_as(kNobody);
    ASSERT_TRUE(reader);
    readers.push_back(std::move(*reader));
  }
  auto root = connect_as(0);
  ASSERT_TRUE(root);
  EXPECT_TRUE(root->call({kUnmapVerb, Json::object()}, 10s));
  EXPECT_TRUE(readers.front().call({kListVerb, Json::object()}, 10s));
  EXPECT_FALSE(readers.back().call({kListVerb, Json::object()}, 10s)) << "it was hung up on";
}

TEST_F(AccessToServer, RootMayDoBoth) {
  auto client = connect_as(0);
  ASSERT_TRUE(client);
  EXPECT_TRUE(client->call({kListVerb, Json::object()}, 10s));
  EXPECT_TRUE(client->call({kUnmapVerb, Json::object()}, 10s));
}

TEST_F(AccessToServer, WhoIsNotInTheGroupIsToldWhatToDo) {
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
  const auto client = connect_as(kNobody);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().exit, ExitCode::Refused);
  EXPECT_THAT(client.error().hint, testing::HasSubstr("the group rnbd"));
}

TEST_F(AccessToServer, TheSocketBelongsToTheGroup) {
  const group* readers = ::getgrnam(kReaders);
  struct stat found{};
  ASSERT_EQ(::stat(path_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777U, 0660U);
  EXPECT_EQ(found.st_gid, readers == nullptr ? ::getegid() : readers->gr_gid);
}

}  // namespace
}  // namespace rnbd::control
