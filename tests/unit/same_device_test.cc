// SPDX-License-Identifier: Apache-2.0
// What may take the place of a device whose server was away.
#include <cerrno>

#include <gtest/gtest.h>

#include "client/device.h"

namespace rnbd::client {
namespace {

wire::OpenResponse device(std::uint64_t sectors, std::uint8_t mark) {
  wire::OpenResponse response;
  response.sectors = sectors;
  response.logical_block_size = 512;
  response.io_mode_mark = wire::kIoModeMark;
  response.disk_mark = {mark};
  return response;
}

TEST(SameDevice, TheSameOrALargerOneMayComeBack) {
  EXPECT_TRUE(check_same_device(device(100, 1), device(100, 1)));
  EXPECT_TRUE(check_same_device(device(100, 1), device(200, 1)));
}

TEST(SameDevice, AKnownDiskMayHaveShrunk) {
  EXPECT_TRUE(check_same_device(device(100, 1), device(99, 1)));
}

TEST(SameDevice, OneWithOtherBlocksMayNot) {
  wire::OpenResponse other = device(100, 1);
  other.logical_block_size = 4096;
  EXPECT_EQ(check_same_device(device(100, 1), other).error().code, ENXIO);
}

TEST(SameDevice, AnotherDiskMayNot) {
  EXPECT_EQ(check_same_device(device(100, 1), device(100, 2)).error().code, ENXIO);
}

TEST(SameDevice, WhereADiskIsNotKnownItsSizeDecides) {
  EXPECT_TRUE(check_same_device(device(100, 1), device(100, 0)));
  EXPECT_TRUE(check_same_device(device(100, 0), device(100, 2)));
  EXPECT_TRUE(check_same_device(device(100, 0), device(101, 2)));
  EXPECT_EQ(check_same_device(device(100, 0), device(99, 2)).error().code, ENXIO);
  wire::OpenResponse kernels = device(100, 2);
  kernels.io_mode_mark = {};
  EXPECT_TRUE(check_same_device(device(100, 1), kernels)) << "those bytes are not a mark";
}

}  // namespace
}  // namespace rnbd::client
