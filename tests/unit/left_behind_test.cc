// SPDX-License-Identifier: Apache-2.0
// What a client daemon leaves to the next one: the memory file of a device, the descriptors by
// name, and how both get to the keeper and back.
#include "client/left_behind.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include "client/descriptor_store.h"
#include "common/control/verbs.h"
#include "unit/notify_socket.h"

namespace rnbd::client {
namespace {

constexpr JournalShape kJournalShape{.requests = 8, .permits = 16};

DeviceRecord record() {
  DeviceRecord record;
  record.session.name = "host@10-0-0-1";
  record.session.session_uuid[3] = 0xab;
  record.session.paths = {
      {.route = {.source = {}, .destination = {.text = "ip:10.0.0.1", .port = 1234}}, .uuid = {}},
      {.route = {.source = {.text = "ip:10.0.1.7"},
                 .destination = {.text = "ip:10.0.1.1", .port = 1235}},
       .uuid = {}}};
  record.session.paths[1].uuid[15] = 0xcd;
  record.session.policy = rtrs::PathPolicy::MinLatency;
  record.session.heartbeat = {.interval = std::chrono::milliseconds(250), .missed_max = 9};
  record.session.max_reconnect_attempts = 3;
  record.parameters = {.queue_depth = kJournalShape.permits, .max_io_size = 4096};
  record.memory = "m1";
  record.request.session_name = record.session.name;
  record.request.device_path = "a \"name\" with é";
  record.request.access_mode = wire::AccessMode::ReadOnly;
  record.request.fail_after = std::chrono::seconds(60);
  record.opened.sectors = 12345;
  record.index = 7;
  return record;
}

UniqueFd copy_of(int fd) { return UniqueFd(::dup(fd)); }

TEST(DeviceFile, KeepsARecordAndJournalsForWhoOpensItNext) {
  auto made = DeviceFile::create(3, kJournalShape, true);
  ASSERT_TRUE(made);
  ASSERT_TRUE(made->write({}));
  ASSERT_TRUE(made->write(record()));
  made->journal(2).back() = std::byte{42};

  auto opened = DeviceFile::open(copy_of(made->fd()));
  ASSERT_TRUE(opened) << describe(opened.error());
  EXPECT_EQ(opened->queues(), 3U);
  EXPECT_EQ(opened->shape(), kJournalShape);
  EXPECT_EQ(opened->journal(2).back(), std::byte{42});
  const auto read = opened->read();
  ASSERT_TRUE(read) << describe(read.error());
  const DeviceRecord wanted = record();
  EXPECT_EQ(read->session.name, wanted.session.name);
  EXPECT_EQ(read->session.session_uuid, wanted.session.session_uuid);
  ASSERT_EQ(read->session.paths.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const rtrs::PathSpec& path = read->session.paths[i];
    const rtrs::PathSpec& expected = wanted.session.paths[i];
    EXPECT_EQ(path.uuid, expected.uuid);
    EXPECT_EQ(path.route.source.text, expected.route.source.text);
    EXPECT_EQ(path.route.destination.text, expected.route.destination.text);
    EXPECT_EQ(path.route.destination.port, expected.route.destination.port);
  }
  EXPECT_EQ(read->session.policy, wanted.session.policy);
  EXPECT_EQ(read->session.heartbeat.interval, wanted.session.heartbeat.interval);
  EXPECT_EQ(read->session.heartbeat.missed_max, wanted.session.heartbeat.missed_max);
  EXPECT_EQ(read->session.max_reconnect_attempts, 3);
  EXPECT_EQ(read->request.fail_after, wanted.request.fail_after);
  EXPECT_EQ(read->request.device_path, wanted.request.device_path);
  EXPECT_EQ(read->request.access_mode, wanted.request.access_mode);
  EXPECT_EQ(read->opened.sectors, wanted.opened.sectors);
  EXPECT_EQ(read->parameters.max_io_size, 4096U);
  EXPECT_EQ(read->index, 7U);
}

TEST(DeviceFile, OfAnotherVersionIsRefused) {
  auto made = DeviceFile::create(1, kJournalShape, true);
  ASSERT_TRUE(made);
  const std::uint32_t other = control::kJournalVersion + 1;
  ASSERT_EQ(::pwrite(made->fd(), &other, sizeof other, 8), ssize_t{sizeof other});
  const auto opened = DeviceFile::open(copy_of(made->fd()));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, EPROTO);
}

TEST(DeviceFile, OfAnythingElseIsRefused) {
  auto file = MemoryBlock::make_file("something", 1 << 20);
  ASSERT_TRUE(file);
  EXPECT_FALSE(DeviceFile::open(copy_of(file->get())));
  ASSERT_EQ(::ftruncate(file->get(), 100), 0);
  EXPECT_FALSE(DeviceFile::open(std::move(*file)));
}

/// A device's file and `sockets` descriptors under `name`.
void leave(std::map<std::string, UniqueFd>& left, const std::string& name, std::size_t sockets,
           bool mapped) {
  auto file = DeviceFile::create(2, kJournalShape, true);
  ASSERT_TRUE(file);
  DeviceRecord written = record();
  if (!mapped) written.index.reset();
  ASSERT_TRUE(file->write(written));
  left[name] = copy_of(file->fd());
  for (std::size_t i = 0; i < sockets; ++i) left[socket_name(name, i)] = copy_of(0);
}

TEST(LeftBehind, IsSortedOut) {
  std::map<std::string, UniqueFd> left;
  leave(left, "d2", 2, true);
  leave(left, "d3", 2, false);
  leave(left, "d12", 1, true);
  left["m1"] = copy_of(0);
  left["m9"] = copy_of(0);
  left["d99.0"] = copy_of(0);
  left["else"] = copy_of(0);
  auto sorted = sort_out(std::move(left));
  ASSERT_TRUE(sorted) << describe(sorted.error());
  ASSERT_EQ(sorted->devices.size(), 1U);
  EXPECT_EQ(sorted->devices[0].name, "d2");
  EXPECT_EQ(sorted->devices[0].sockets.size(), 2U);
  ASSERT_EQ(sorted->unfinished.size(), 2U) << "never mapped; or not all of its sockets";
  ASSERT_EQ(sorted->memories.size(), 1U);
  EXPECT_EQ(sorted->memories.begin()->first, "m1");
  EXPECT_EQ(sorted->useless.size(), 3U);
  EXPECT_EQ(sorted->highest, 99U);
}

TEST(LeftBehind, WhatIsNoDeviceIsNamed) {
  std::map<std::string, UniqueFd> left;
  auto file = MemoryBlock::make_file("something", 1 << 20);
  ASSERT_TRUE(file);
  left["d7"] = std::move(*file);
  const auto sorted = sort_out(std::move(left));
  ASSERT_FALSE(sorted);
  EXPECT_EQ(sorted.error().code, EPROTO);
  EXPECT_TRUE(sorted.error().message.starts_with("device d7 was left behind, but "))
      << sorted.error().message;
}

TEST(LeftBehind, PermitsAreThoseOfAllQueues) {
  auto file = DeviceFile::create(2, kJournalShape, true);
  ASSERT_TRUE(file);
  const rtrs::ServerParameters parameters{.queue_depth = kJournalShape.permits};
  EXPECT_TRUE(held_permits(*file, parameters)->empty());
  EXPECT_FALSE(held_permits(*file, {.queue_depth = kJournalShape.permits + 1}));
  // Its first numbers are how much of the stream was taken, and how much has come.
  const std::uint64_t nonsense = 7;
  std::memcpy(file->journal(1).data(), &nonsense, sizeof nonsense);
  EXPECT_EQ(held_permits(*file, parameters).error().code, EPROTO);
}

class DescriptorStoreTest : public testing::Test {
 protected:
  DescriptorStoreTest() { ::setenv("FDSTORE", "16", 1); }
  ~DescriptorStoreTest() override { ::unsetenv("FDSTORE"); }

  Result<DescriptorStore> open_store() {
    auto notifier = Notifier::from_environment();
    if (!notifier) return fail(notifier.error());
    notifier_ = std::move(*notifier);
    return DescriptorStore::from_environment(notifier_);
  }

  test::NotifySocket keeper_;
  Notifier notifier_;
};

TEST_F(DescriptorStoreTest, TellsTheKeeperWhatToKeepAndToForget) {
  auto store = open_store();
  ASSERT_TRUE(store) << describe(store.error());
  EXPECT_TRUE(store->has_keeper());
  ASSERT_TRUE(store->keep("d1.0", keeper_.fd()));
  EXPECT_EQ(keeper_.next(), std::pair(std::string("FDSTORE=1\nFDNAME=d1.0\nFDPOLL=0"), true));
  store->forget("d1.0");
  EXPECT_EQ(keeper_.next(), std::pair(std::string("FDSTOREREMOVE=1\nFDNAME=d1.0"), false));
}

TEST_F(DescriptorStoreTest, WhatIsKeptBesideIsKeptAsLongAsAnythingElse) {
  const auto copy = [&] { return UniqueFd(::dup(keeper_.fd())); };
  const auto keeping = [](const std::string& name) {
    return std::pair("FDSTORE=1\nFDNAME=" + name + "\nFDPOLL=0", true);
  };
  const auto forgetting = [](const std::string& name) {
    return std::pair("FDSTOREREMOVE=1\nFDNAME=" + name, false);
  };
  auto store = open_store();
  ASSERT_TRUE(store->keep_beside("config", copy()));
  EXPECT_EQ(keeper_.next().first, "") << "there is nothing yet that a next process goes on with";
  ASSERT_TRUE(store->keep("d1", keeper_.fd()));
  EXPECT_EQ(keeper_.next(), keeping("config"));
  EXPECT_EQ(keeper_.next(), keeping("d1"));
  ASSERT_TRUE(store->keep("d2", keeper_.fd()));
  EXPECT_EQ(keeper_.next(), keeping("d2"));
  ASSERT_TRUE(store->keep_beside("config", copy()));
  EXPECT_EQ(keeper_.next(), forgetting("config"));
  EXPECT_EQ(keeper_.next(), keeping("config"));
  store->forget("d1");
  EXPECT_EQ(keeper_.next(), forgetting("d1"));
  EXPECT_EQ(keeper_.next().first, "");
  store->forget("d2");
  EXPECT_EQ(keeper_.next(), forgetting("d2"));
  EXPECT_EQ(keeper_.next(), forgetting("config"));
}

TEST_F(DescriptorStoreTest, WhoIsOnlyNotifiedKeepsNothing) {
  ::unsetenv("FDSTORE");
  auto store = open_store();
  ASSERT_TRUE(store);
  EXPECT_FALSE(store->has_keeper());
  EXPECT_TRUE(store->keep("d1", keeper_.fd()));
  EXPECT_EQ(keeper_.next().first, "");
}

/// What systemd starts a process with: descriptors from 3 on, of which this has one.
class InheritedDescriptor : public DescriptorStoreTest {
 protected:
  static constexpr int kFirst = 3;

  InheritedDescriptor() : before_(::fcntl(kFirst, F_DUPFD_CLOEXEC, 100)) {
    ::dup2(keeper_.fd(), kFirst);
    set("LISTEN_PID", std::to_string(::getpid()));
    set("LISTEN_FDNAMES", "d1.0");
  }
  ~InheritedDescriptor() override {
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
    if (before_) {
      ::dup3(before_.get(), kFirst, O_CLOEXEC);
    } else {
      ::close(kFirst);
    }
  }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

 private:
  UniqueFd before_;
};

TEST_F(InheritedDescriptor, IsKnownByItsNameAndClosedForChildren) {
  set("LISTEN_FDS", "1");
  auto store = open_store();
  ASSERT_TRUE(store) << describe(store.error());
  EXPECT_EQ(::fcntl(kFirst, F_GETFD), FD_CLOEXEC);
  const auto inherited = store->take_inherited();
  ASSERT_EQ(inherited.size(), 1U);
  EXPECT_EQ(inherited.at("d1.0").get(), kFirst);
  EXPECT_EQ(std::getenv("LISTEN_FDS"), nullptr) << "children have not inherited it";
}

TEST_F(InheritedDescriptor, OfAnotherProcessIsNotOurs) {
  set("LISTEN_FDS", "1");
  set("LISTEN_PID", "1");
  auto store = open_store();
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->take_inherited().empty());
}

TEST_F(InheritedDescriptor, WhoseNumberMakesNoSenseIsRefused) {
  for (const char* count : {"x", "-1x", "65537"}) {
    set("LISTEN_PID", std::to_string(::getpid()));
    set("LISTEN_FDS", count);
    EXPECT_EQ(open_store().error().code, EINVAL) << count;
  }
}

TEST_F(InheritedDescriptor, ThatIsNotThereIsRefused) {
  set("LISTEN_FDS", "1");
  auto notifier = Notifier::from_environment();
  ASSERT_TRUE(notifier);
  ::close(kFirst);
  const auto store = DescriptorStore::from_environment(*notifier);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, EBADF);
}

TEST_F(DescriptorStoreTest, AKeeperThatIsGoneIsNoReasonToStop) {
  const std::string path = std::getenv("NOTIFY_SOCKET");
  auto store = open_store();
  ASSERT_TRUE(store);
  std::filesystem::remove(path);
  EXPECT_FALSE(store->keep("d1.0", keeper_.fd()));
  store->forget("d1.0");
  EXPECT_EQ(keeper_.next().first, "");
}

}  // namespace
}  // namespace rnbd::client
