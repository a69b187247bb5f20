// SPDX-License-Identifier: Apache-2.0
// What is read from and written to /sys, /dev and /proc about a device, over a copy of them that
// the test makes. A real device is the guest's test (tests/vm/nbd_kernel_test.cc).
#include "client/nbd_sysfs.h"

#include <cerrno>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "client/nbd_netlink.h"
#include "unit/temp_directory.h"

namespace rnbd::client {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class NbdSysfsTest : public testing::Test {
 protected:
  NbdSysfsTest() {
    put("sys/nbd3/dev", "43:96\n");
    put("sys/nbd3/size", "0\n");
    put("proc/self/mountinfo", "");
    put("proc/swaps", "Filename Type Size Used Priority\n");
    put("proc/812/comm", "fio\n");
    fs::create_directories(directory_.path() / "dev");
  }

  void put(const std::string& name, const std::string& text) {
    const fs::path path = directory_.path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  std::string get(const std::string& name) {
    std::ifstream file(directory_.path() / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  test::TempDirectory directory_;
  NbdSysfs device_{3,
                   {.sys_block = directory_.path() / "sys",
                    .dev = directory_.path() / "dev",
                    .proc = directory_.path() / "proc",
                    .udev = directory_.path() / "udev"}};
};

TEST_F(NbdSysfsTest, KnowsItsNames) {
  EXPECT_EQ(device_.name(), "nbd3");
  EXPECT_EQ(NbdSysfs(12).node(), "/dev/nbd12");
}

TEST_F(NbdSysfsTest, TellsSizeAndBackend) {
  put("sys/nbd3/size", "2049\n");
  EXPECT_EQ(device_.size_bytes(), 2049 * 512U);
  EXPECT_EQ(device_.backend(), "") << "not connected";
  put("sys/nbd3/backend", "rnbd:a/b c\n");
  EXPECT_EQ(device_.backend(), "rnbd:a/b c");
  fs::remove_all(directory_.path() / "sys/nbd3");
  EXPECT_EQ(device_.size_bytes().error().code, ENOENT);
  EXPECT_EQ(device_.backend().error().code, ENOENT);
}

TEST_F(NbdSysfsTest, WaitsForUdevIfItRuns) {
  const auto now = fs::file_time_type::clock::now();
  EXPECT_TRUE(device_.wait_for_udev(now, 20ms)) << "there is no udev";
  put("udev/control", "");
  EXPECT_FALSE(device_.wait_for_udev(now, 20ms)) << "it has not heard of the device";
  put("udev/data/b43:96", "");
  fs::last_write_time(directory_.path() / "udev/data/b43:96", now - 1s);
  EXPECT_FALSE(device_.wait_for_udev(now, 20ms)) << "what it knows is older";
  fs::last_write_time(directory_.path() / "udev/data/b43:96", now);
  put("udev/queue", "");
  const auto busy = device_.wait_for_udev(now, 20ms);
  ASSERT_FALSE(busy) << "partitions may be on their way";
  EXPECT_EQ(busy.error().code, ETIMEDOUT);
  fs::remove(directory_.path() / "udev/queue");
  EXPECT_TRUE(device_.wait_for_udev(now, 20ms));
}

TEST_F(NbdSysfsTest, WaitsForSizeAndNodeOnlySoLong) {
  const auto sizeless = device_.wait_until_ready(20ms);
  ASSERT_FALSE(sizeless);
  EXPECT_EQ(sizeless.error().code, ETIMEDOUT);
  EXPECT_NE(sizeless.error().message.find("size"), std::string::npos);
  put("sys/nbd3/size", "8\n");
  const auto nodeless = device_.wait_until_ready(20ms);
  ASSERT_FALSE(nodeless);
  EXPECT_NE(nodeless.error().message.find("appear"), std::string::npos);
}

TEST_F(NbdSysfsTest, WaitsUntilThePidIsGone) {
  EXPECT_TRUE(device_.wait_until_free(0ms));
  put("sys/nbd3/pid", "1\n");
  EXPECT_TRUE(device_.connected());
  EXPECT_EQ(device_.wait_until_free(20ms).error().code, ETIMEDOUT);
}

TEST_F(NbdSysfsTest, AppliesWhatIsSetAndNothingElse) {
  put("sys/nbd3/queue/scheduler", "");
  put("sys/nbd3/queue/max_sectors_kb", "128");
  put("sys/nbd3/queue/io_timeout", "30000");
  EXPECT_TRUE(device_.apply({.max_sectors_kb = {}, .io_timeout_ms = {}, .scheduler = "none"}));
  EXPECT_EQ(get("sys/nbd3/queue/scheduler"), "none");
  EXPECT_EQ(get("sys/nbd3/queue/max_sectors_kb"), "128");
  EXPECT_TRUE(device_.apply({.max_sectors_kb = 1024, .io_timeout_ms = 99999, .scheduler = {}}));
  EXPECT_EQ(get("sys/nbd3/queue/max_sectors_kb"), "1024");
  EXPECT_EQ(get("sys/nbd3/queue/io_timeout"), "99999");
  fs::remove(directory_.path() / "sys/nbd3/queue/io_timeout");
  const auto status = device_.apply({.max_sectors_kb = {}, .io_timeout_ms = 1, .scheduler = {}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ENOENT);
  EXPECT_NE(status.error().message.find("queue/io_timeout"), std::string::npos);
}

TEST_F(NbdSysfsTest, FindsMountsSwapsHoldersAndLoops) {
  const std::string dev = directory_.path() / "dev";
  put("dev/nbd3", "");  // a file opens like a device, and O_EXCL without O_CREAT says nothing
  put("sys/nbd3/nbd3p2/dev", "43:98\n");
  put("sys/nbd3/nbd3p2/partition", "2\n");
  put("sys/nbd3/nbd3p2/holders/dm-4/x", "");
  put("sys/loop0/loop/backing_file", dev + "/nbd3p2\n");
  put("sys/loop1/loop/backing_file", dev + "/nbd33\n");
  put("proc/self/mountinfo",
      "24 1 43:98 / /mnt/two\\040words rw,relatime - ext4 /dev/nbd3p2 rw\n"
      "25 1 43:99 / /mnt/other rw - ext4 /dev/nbd3p3 rw\n");
  put("proc/1/mountinfo",
      "44 1 43:98 / /mnt/two\\040words rw - ext4 /dev/nbd3p2 rw\n"
      "45 1 43:98 / /srv rw - ext4 /dev/nbd3p2 rw\n");
  put("proc/swaps", "Filename Type Size Used Priority\n" + dev + "/nbd3 partition 1 0 -2\n");
  const auto use = device_.find_users();
  ASSERT_TRUE(use) << describe(use.error());
  EXPECT_TRUE(use->in_use());
  EXPECT_EQ(use->mounts, std::vector<std::string>({"/mnt/two words", "/srv"}));
  EXPECT_EQ(use->swaps, std::vector<std::string>({dev + "/nbd3"}));
  EXPECT_EQ(use->holders, std::vector<std::string>({"dm-4", "loop0"}));
  EXPECT_EQ(use->describe(),
            "mounted on /mnt/two words, /srv; swap space " + dev + "/nbd3; part of dm-4, loop0");
}

TEST_F(NbdSysfsTest, AnIdleDeviceIsNotInUse) {
  put("dev/nbd3", "");
  const auto use = device_.find_users();
  ASSERT_TRUE(use);
  EXPECT_FALSE(use->in_use());
  EXPECT_EQ(use->describe(), "");
}

TEST_F(NbdSysfsTest, NoNodeIsAnError) { EXPECT_EQ(device_.find_users().error().code, ENOENT); }

TEST(NbdNetlink, SaysWhatToDoWithoutTheDriver) {
  const auto netlink = NbdNetlink::open();
  if (netlink) GTEST_SKIP() << "the driver is here";
  EXPECT_EQ(netlink.error().code, ENODEV);
  EXPECT_NE(netlink.error().message.find("modprobe nbd"), std::string::npos);
}

}  // namespace
}  // namespace rnbd::client
