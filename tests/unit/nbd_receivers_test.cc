// SPDX-License-Identifier: Apache-2.0
// Counting the kernel's threads that read a device's sockets, by their names.
#include "client/nbd_receivers.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "unit/temp_directory.h"

namespace rnbd::client {
namespace {

class Receivers : public testing::Test {
 protected:
  void thread(int pid, const std::string& name) {
    const auto directory = proc_ / std::to_string(pid);
    std::filesystem::create_directories(directory);
    std::ofstream(directory / "comm") << name << '\n';
  }

  test::TempDirectory directory_;
  std::filesystem::path proc_ = directory_.path();
};

TEST_F(Receivers, AreThoseThatReadJustNow) {
  thread(2, "kthreadd");
  thread(10, "kworker/u5:1+nbd1-recv");
  thread(11, "nbd1-recv+nbd1-recv");  // the rescuer, at work
  thread(12, "kworker/u5:2-nbd1-recv");
  thread(13, "nbd1-recv");
  EXPECT_EQ(count_receivers(1, proc_), 2U);
}

TEST_F(Receivers, OfOtherDevicesDoNotCount) {
  thread(2, "kthreadd");
  thread(10, "kworker/u5:1+nbd11-recv");
  thread(11, "kworker/u5:1+nbd1-recv");
  EXPECT_EQ(count_receivers(1, proc_), 1U);
  EXPECT_EQ(count_receivers(11, proc_), 1U);
  EXPECT_EQ(count_receivers(2, proc_), 0U);
}

TEST_F(Receivers, HadAnotherNameBefore516) {
  thread(2, "kthreadd");
  thread(10, "kworker/u5:1+knbd1-recv");
  EXPECT_EQ(count_receivers(1, proc_), 1U);
}

TEST_F(Receivers, CannotBeCountedWhereTheKernelsThreadsAreHidden) {
  thread(1, "systemd");
  EXPECT_EQ(count_receivers(1, proc_), std::nullopt);
  EXPECT_EQ(count_receivers(1, proc_ / "nowhere"), std::nullopt);
}

}  // namespace
}  // namespace rnbd::client
