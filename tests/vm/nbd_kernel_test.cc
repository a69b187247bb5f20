// SPDX-License-Identifier: Apache-2.0
// The client's kernel half against the kernel: a real /dev/nbdX over two sockets. Skipped where
// there is no nbd driver or no right to use it, unless RNBD_REQUIRE_NBD is set: then it fails.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <random>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "client/nbd_attachment.h"
#include "vm/attached_nbd.h"

namespace rnbd::client {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kDiskBytes = (64 << 20) + 512;
constexpr std::uint32_t kPermits = 40;

std::vector<std::byte> pattern(std::size_t length, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(length);
  for (std::size_t at = 0; at < length; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(&bytes[at], &word, std::min(sizeof word, length - at));
  }
  return bytes;
}

/// Page-aligned memory for O_DIRECT.
struct DirectBuffer {
  explicit DirectBuffer(std::size_t length)
      : bytes(static_cast<std::byte*>(std::aligned_alloc(4096, (length + 4095) / 4096 * 4096)),
              length) {}
  DirectBuffer(const DirectBuffer&) = delete;
  DirectBuffer& operator=(const DirectBuffer&) = delete;
  ~DirectBuffer() { std::free(bytes.data()); }
  std::span<std::byte> bytes;
};

class NbdKernel : public testing::Test {
 protected:
  void SetUp() override {
    auto netlink = NbdNetlink::open();
    if (!netlink || ::geteuid() != 0) {
      const std::string why = netlink ? "not root" : describe(netlink.error());
      if (std::getenv("RNBD_REQUIRE_NBD") != nullptr) FAIL() << why;
      GTEST_SKIP() << why;
    }
    netlink_.emplace(std::move(*netlink));
  }

  void TearDown() override {
    disk_.stalled = false;
    if (sysfs_ && sysfs_->connected()) detach();
    lanes_.clear();
  }

  void attach(std::optional<std::uint32_t> index = {}) {
    std::vector<UniqueFd> kernels;
    NbdDeviceConfig config{.index = index,
                           .sockets = {},
                           .size_bytes = kDiskBytes,
                           .block_size = 512,
                           .server_flags = kNbdHasFlags | kNbdSendFlush | kNbdSendFua |
                                           kNbdSendTrim | kNbdSendWriteZeroes | kNbdCanMultiConn,
                           .client_flags = 0,
                           .timeout_s = 600,
                           .dead_conn_timeout_s = 0,
                           .backend = "rnbd test disk"};
    lanes_.clear();
    for (int i = 0; i < 2; ++i) {
      lanes_.push_back(std::make_unique<test::Lane>(
          i, disk_,
          BlockQueue::Config{.shape = {.size_bytes = kDiskBytes,
                                       .block_size = 512,
                                       .max_discard_sectors = 8192,
                                       .discard_granularity = 4096,
                                       .max_write_zeroes_sectors = 8192},
                             .device_id = 7,
                             .permit_ids = kPermits}));
      kernels.push_back(lanes_.back()->serve({.permits = kPermits}));
      config.sockets.push_back(kernels.back().get());
    }
    const auto connected = netlink_->connect(config);
    ASSERT_TRUE(connected) << describe(connected.error());
    sysfs_.emplace(index_ = *connected);
    const Status ready = sysfs_->wait_until_ready(5s);
    ASSERT_TRUE(ready) << describe(ready.error());
    const Status applied = sysfs_->apply(
        {.max_sectors_kb = 1024, .io_timeout_ms = 1'000'000'000, .scheduler = "none"});
    ASSERT_TRUE(applied) << describe(applied.error());
  }

  void detach() {
    const Status status = netlink_->disconnect(index_);
    EXPECT_TRUE(status) << describe(status.error());
    const Status free = sysfs_->wait_until_free(10s);
    EXPECT_TRUE(free) << describe(free.error());
  }

  UniqueFd open(int flags = O_RDWR | O_DIRECT) {
    UniqueFd fd(::open(sysfs_->node().c_str(), flags | O_CLOEXEC));
    EXPECT_TRUE(fd) << sysfs_->node() << ": " << errno_name(errno);
    return fd;
  }

  std::string queue_attribute(const std::string& name) {
    std::ifstream file("/sys/block/" + sysfs_->name() + "/queue/" + name);
    std::string line;
    std::getline(file, line);
    return line;
  }

  /// How many requests with `operation` the server saw.
  std::size_t seen(std::uint32_t operation) {
    const std::scoped_lock lock(disk_.mutex);
    return static_cast<std::size_t>(
        std::ranges::count_if(disk_.log, [&](const wire::Io& one) { return one.rw == operation; }));
  }

  std::vector<std::byte> on_disk(std::size_t offset, std::size_t length) {
    const std::scoped_lock lock(disk_.mutex);
    const auto start = disk_.bytes.begin() + static_cast<std::ptrdiff_t>(offset);
    return {start, start + static_cast<std::ptrdiff_t>(length)};
  }

  BlockQueueCounters total() {
    BlockQueueCounters sum;
    for (const auto& lane : lanes_) {
      const auto one = lane->counters();
      sum.reads += one.reads;
      sum.writes += one.writes;
      sum.errors += one.errors;
      sum.in_flight += one.in_flight;
    }
    return sum;
  }

  template <typename Condition>
  static bool eventually(Condition condition) {
    for (const auto end = Clock::now() + 20s; Clock::now() < end;) {
      if (condition()) return true;
      std::this_thread::sleep_for(2ms);
    }
    return false;
  }

  test::SharedDisk disk_{kDiskBytes};
  std::optional<NbdNetlink> netlink_;
  std::vector<std::unique_ptr<test::Lane>> lanes_;
  std::optional<NbdSysfs> sysfs_;
  std::uint32_t index_ = 0;
};

TEST_F(NbdKernel, ShowsTheDeviceAsConfigured) {
  attach();
  EXPECT_EQ(sysfs_->size_bytes(), kDiskBytes);
  EXPECT_EQ(sysfs_->backend(), "rnbd test disk");
  EXPECT_TRUE(sysfs_->connected());
  EXPECT_EQ(queue_attribute("max_sectors_kb"), "1024");
  EXPECT_EQ(queue_attribute("logical_block_size"), "512");
  EXPECT_EQ(queue_attribute("write_cache"), "write back");
  EXPECT_EQ(queue_attribute("fua"), "1");
  EXPECT_TRUE(queue_attribute("scheduler").starts_with("[none]"));
  const auto devices = netlink_->status();
  ASSERT_TRUE(devices);
  EXPECT_GE(devices->size(), 2U);
  const auto one = netlink_->status(index_);
  ASSERT_TRUE(one);
  ASSERT_EQ(one->size(), 1U);
  EXPECT_EQ(one->front().index, index_);
  EXPECT_TRUE(one->front().configured);
}

TEST_F(NbdKernel, ReadsWhatWasWritten) {
  attach();
  const UniqueFd fd = open();
  std::size_t offset = 512;
  for (const std::size_t length : {512U, 1024U, 4096U, 65536U, 126976U, 130048U, 1U << 20}) {
    SCOPED_TRACE(length);
    DirectBuffer buffer(length);
    const auto data = pattern(length, length);
    std::ranges::copy(data, buffer.bytes.begin());
    const auto at = static_cast<off_t>(offset);
    ASSERT_EQ(::pwrite(fd.get(), buffer.bytes.data(), length, at), static_cast<ssize_t>(length));
    EXPECT_TRUE(on_disk(offset, length) == data);
    std::ranges::fill(buffer.bytes, std::byte{0});
    ASSERT_EQ(::pread(fd.get(), buffer.bytes.data(), length, at), static_cast<ssize_t>(length));
    EXPECT_TRUE(std::ranges::equal(buffer.bytes, data));
    offset += length;
  }
  // The last sector of a device that is no multiple of 4096.
  DirectBuffer sector(512);
  std::ranges::fill(sector.bytes, std::byte{0x5a});
  ASSERT_EQ(::pwrite(fd.get(), sector.bytes.data(), 512, kDiskBytes - 512), 512);
  EXPECT_EQ(on_disk(kDiskBytes - 512, 512), std::vector<std::byte>(512, std::byte{0x5a}));
}

TEST_F(NbdKernel, FlushFuaTrimAndZeroesArrive) {
  attach();
  const UniqueFd fd = open();
  DirectBuffer buffer(8192);
  std::ranges::fill(buffer.bytes, std::byte{1});
  const iovec piece{buffer.bytes.data(), buffer.bytes.size()};
  ASSERT_EQ(::pwritev2(fd.get(), &piece, 1, 4096, RWF_DSYNC), 8192);
  EXPECT_EQ(seen(0x301), 1U) << "FUA";
  const std::size_t flushes = seen(0x302);
  ASSERT_EQ(::pwrite(fd.get(), buffer.bytes.data(), 8192, 65536), 8192);
  ASSERT_EQ(::fsync(fd.get()), 0);
  EXPECT_GT(seen(0x302), flushes);
  std::array<std::uint64_t, 2> range = {4096, 4096};
  ASSERT_EQ(::ioctl(fd.get(), BLKDISCARD, range.data()), 0);
  EXPECT_EQ(seen(0x003), 1U);
  EXPECT_EQ(on_disk(4096, 4096), std::vector<std::byte>(4096));
  EXPECT_EQ(on_disk(8192, 4096), std::vector<std::byte>(4096, std::byte{1}));
  range = {0, 32 << 20};
  ASSERT_EQ(::ioctl(fd.get(), BLKDISCARD, range.data()), 0);
  EXPECT_EQ(seen(0x003), 1U + 8U) << "cut to max_discard_sectors";
  ASSERT_EQ(::pwrite(fd.get(), buffer.bytes.data(), 8192, 65536), 8192);
  range = {65536, 8192};
  ASSERT_EQ(::ioctl(fd.get(), BLKZEROOUT, range.data()), 0);
  EXPECT_EQ(on_disk(65536, 8192), std::vector<std::byte>(8192));
}

TEST_F(NbdKernel, ManyWritersAndReadersAtOnce) {
  attach();
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kTurns = 60;
  constexpr std::size_t kShare = (32 << 20) / kThreads;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const UniqueFd fd = open();
      std::mt19937 random(static_cast<unsigned>(thread));
      DirectBuffer buffer(1 << 20);
      for (std::size_t turn = 0; turn < kTurns; ++turn) {
        const std::size_t length = 512U << (random() % 12);
        const std::size_t offset = thread * kShare + random() % ((kShare - length) / 512) * 512;
        const auto data = pattern(length, random());
        std::memcpy(buffer.bytes.data(), data.data(), length);
        const auto at = static_cast<off_t>(offset);
        const auto count = static_cast<ssize_t>(length);
        if (::pwrite(fd.get(), buffer.bytes.data(), length, at) != count) ++wrong;
        std::memset(buffer.bytes.data(), 0, length);
        if (::pread(fd.get(), buffer.bytes.data(), length, at) != count) ++wrong;
        if (std::memcmp(buffer.bytes.data(), data.data(), length) != 0) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const auto counters = total();
  EXPECT_EQ(counters.errors, 0U);
  EXPECT_EQ(counters.in_flight, 0U);
  EXPECT_GE(counters.writes, kThreads * kTurns);
}

TEST_F(NbdKernel, AnErrorReachesTheReaderAndTheDeviceLivesOn) {
  attach();
  const UniqueFd fd = open();
  DirectBuffer buffer(4096);
  disk_.error = ENOSPC;
  EXPECT_EQ(::pread(fd.get(), buffer.bytes.data(), 4096, 0), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::pwrite(fd.get(), buffer.bytes.data(), 4096, 0), -1);
  disk_.error = 0;
  EXPECT_EQ(::pread(fd.get(), buffer.bytes.data(), 4096, 0), 4096);
}

TEST_F(NbdKernel, DisconnectFreesTheDeviceAndItsIndex) {
  attach();
  const std::uint32_t index = index_;
  detach();
  for (const auto& lane : lanes_) {
    EXPECT_TRUE(eventually([&] { return lane->ended == EPIPE; }));
    EXPECT_EQ(lane->disconnects, 1);
  }
  EXPECT_FALSE(netlink_->status(index)->front().configured);
  attach(index);
  EXPECT_EQ(index_, index);
  EXPECT_TRUE(open());
  const Status again = netlink_->disconnect(index);
  EXPECT_TRUE(again);
  EXPECT_TRUE(netlink_->disconnect(index)) << "nothing to do is no error";
}

TEST_F(NbdKernel, WhatWasLeftIsClearedUnlessItIsSomebodyElses) {
  attach();
  EXPECT_TRUE(detach_leftover(index_, "rnbd:other/vol1"));
  EXPECT_TRUE(detach_leftover({}, "rnbd:other/vol1"));
  EXPECT_TRUE(sysfs_->connected());
  EXPECT_TRUE(detach_leftover(index_, "rnbd test disk"));
  EXPECT_TRUE(eventually([&] { return !sysfs_->connected(); }));
  EXPECT_TRUE(detach_leftover(index_, "rnbd test disk")) << "nothing to do is no error";
}

TEST_F(NbdKernel, ClosingAnswersWhoWaitsAndDisconnectDoesNotHang) {
  attach();
  disk_.stalled = true;
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  // More than the permits there are, so that some writes are half taken and some not at all.
  for (int i = 0; i < 24; ++i) {
    threads.emplace_back([&, i] {
      const UniqueFd fd = open();
      DirectBuffer buffer(1 << 20);
      const auto at = static_cast<off_t>(i) << 20;
      const ssize_t count = i % 3 == 0 ? ::pread(fd.get(), buffer.bytes.data(), 1 << 20, at)
                                       : ::pwrite(fd.get(), buffer.bytes.data(), 1 << 20, at);
      if (count == -1 && errno == EIO) ++failed;
    });
  }
  EXPECT_TRUE(eventually([&] { return total().in_flight >= 8; }));
  const auto start = Clock::now();
  for (const auto& lane : lanes_) lane->close();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 24);
  detach();
  EXPECT_LT(Clock::now() - start, 20s);
  EXPECT_EQ(total().in_flight, 0U);
  disk_.stalled = false;
  for (const auto& lane : lanes_) lane->go_on();
}

TEST_F(NbdKernel, FindsWhoUsesTheDevice) {
  attach();
  const auto idle = sysfs_->find_users();
  ASSERT_TRUE(idle) << describe(idle.error());
  EXPECT_FALSE(idle->in_use()) << idle->describe();
  for (const int flags : {O_RDONLY, O_RDONLY | O_EXCL}) {
    const pid_t child = ::fork();
    if (child == 0) {
      // Whoever looks for users claims the device for a moment, which refuses our own claim.
      while (::open(sysfs_->node().c_str(), flags) == -1 && errno == EBUSY) ::usleep(1000);
      ::pause();
      ::_exit(0);
    }
    EXPECT_TRUE(eventually([&] { return sysfs_->find_users()->in_use(); }));
    const auto use = sysfs_->find_users();
    ASSERT_EQ(use->openers.size(), 1U);
    EXPECT_EQ(use->openers[0].pid, child);
    EXPECT_EQ(use->claimed, (flags & O_EXCL) != 0);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  EXPECT_TRUE(eventually([&] { return !sysfs_->find_users()->in_use(); }));
}

TEST_F(NbdKernel, SeesMountsOfPartitions) {
  attach();
  const std::string node = sysfs_->node();
  const auto shell = [](const std::string& command) { return std::system(command.c_str()); };
  ASSERT_EQ(shell("echo 'start=2048, size=65536' | sfdisk -q " + node), 0);
  ASSERT_TRUE(sysfs_->scan_partitions());
  ASSERT_TRUE(eventually([&] { return ::access((node + "p1").c_str(), F_OK) == 0; }));
  ASSERT_EQ(shell("mkfs.ext4 -q " + node + "p1 && mkdir -p '/run/a b' && mount " + node +
                  "p1 '/run/a b' && dd if=/dev/urandom of='/run/a b/x' bs=1M count=8 status=none"),
            0);
  const auto use = sysfs_->find_users();
  ASSERT_TRUE(use);
  EXPECT_TRUE(use->claimed);
  EXPECT_EQ(use->mounts, std::vector<std::string>({"/run/a b"}));
  ASSERT_EQ(shell("umount '/run/a b' && fsck.ext4 -fn " + node + "p1 > /dev/null"), 0);
  EXPECT_FALSE(sysfs_->find_users()->in_use());
}

TEST_F(NbdKernel, ASizeMayChange) {
  attach();
  const std::uint64_t half = kDiskBytes / 1024 * 512;
  const Status refused = netlink_->reconfigure(index_, {.size_bytes = half, .backend = "other"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EINVAL);
  const Status status =
      netlink_->reconfigure(index_, {.size_bytes = half, .backend = "rnbd test disk"});
  ASSERT_TRUE(status) << describe(status.error());
  EXPECT_EQ(sysfs_->size_bytes(), half);
}

TEST_F(NbdKernel, RefusalsHaveTheirErrno) {
  attach();
  auto pair = make_nbd_socket_pair(65536);
  NbdDeviceConfig config{.sockets = {pair->kernels.get()}, .size_bytes = 1 << 20};
  config.index = index_;
  const auto taken = netlink_->connect(config);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, EBUSY) << describe(taken.error());
  config.index.reset();
  config.sockets = {0};
  EXPECT_EQ(netlink_->connect(config).error().code, ENOTSOCK);
  config.sockets = {pair->kernels.get(), pair->kernels.get()};
  EXPECT_EQ(netlink_->connect(config).error().code, EINVAL) << "two sockets, no CAN_MULTI_CONN";
  config.timeout_s = kNbdMaxTimeout + 1;
  EXPECT_EQ(netlink_->connect(config).error().code, EINVAL);
  EXPECT_EQ(netlink_->disconnect(9999).error().code, EINVAL);
  EXPECT_TRUE(netlink_->status(9999)->empty());

  ASSERT_EQ(::seteuid(65534), 0);
  auto unprivileged = NbdNetlink::open();
  ASSERT_TRUE(unprivileged);
  const Status denied = unprivileged->disconnect(index_);
  ASSERT_EQ(::seteuid(0), 0);
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().code, EPERM);
  EXPECT_NE(denied.error().message.find("CAP_SYS_ADMIN"), std::string::npos);
}

TEST_F(NbdKernel, ManyTimes) {
  for (int turn = 0; turn < 20; ++turn) {
    attach();
    UniqueFd fd = open(O_RDONLY | O_DIRECT);
    DirectBuffer buffer(4096);
    EXPECT_EQ(::pread(fd.get(), buffer.bytes.data(), 4096, 0), 4096);
    const Status status = netlink_->disconnect(index_);
    EXPECT_TRUE(status);
    EXPECT_FALSE(sysfs_->wait_until_free(0ms)) << "it is still open";
    fd.reset();
    EXPECT_TRUE(sysfs_->wait_until_free(5s));
    lanes_.clear();
  }
}

}  // namespace
}  // namespace rnbd::client
