// SPDX-License-Identifier: Apache-2.0
// What disks are known by.
#include "server/disk_mark.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "unit/test_disk.h"

namespace rnbd::server {
namespace {

namespace fs = std::filesystem;

/// A block device that only sysfs knows, as 8:16.
class BlockDiskMark : public testing::Test {
 protected:
  std::uint64_t mark(dev_t device = makedev(8, 16)) {
    return disk_mark(FoundDisk({}, {.is_block = true, .device = device, .inode = 0}, "/dev/sdb"),
                     directory_.path());
  }
  void write(const fs::path& name, const std::string& text) {
    const fs::path path = directory_.path() / "dev/block" / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  rnbd::test::TempDirectory directory_;
};

TEST(DiskMark, OfAFileIsItsOwn) {
  const rnbd::test::TempDirectory directory;
  const auto one = disk_mark(rnbd::test::find_disk(directory.make_file("one", 4096)));
  const auto two = disk_mark(rnbd::test::find_disk(directory.make_file("two", 4096)));
  EXPECT_NE(one, two);
  EXPECT_EQ(one >> kDiskMarkBits, 0U);
  EXPECT_EQ(disk_mark(rnbd::test::find_disk(directory.path() / "one")), one);
  fs::resize_file(directory.path() / "one", 8192);
  EXPECT_EQ(disk_mark(rnbd::test::find_disk(directory.path() / "one")), one) << "whatever its size";
}

TEST_F(BlockDiskMark, ComesFromWhatStaysWithTheDisk) {
  EXPECT_EQ(mark(), 0U) << "sysfs does not know it";
  write("8:16/size", "2048");
  EXPECT_EQ(mark(), 0U) << "nothing there tells it from others";
  write("8:16/device/wwid", "naa.5000c500a1b2c3d4");
  const auto first = mark();
  EXPECT_NE(first, 0U);
  write("8:32/device/wwid", "naa.5000c500a1b2c3d4");
  EXPECT_EQ(mark(makedev(8, 32)), first) << "the same disk under another number";
  write("8:16/device/wwid", "naa.5000c500ffffffff");
  EXPECT_NE(mark(), first);
}

TEST_F(BlockDiskMark, OfAPartitionTellsWhichOne) {
  write("8:16/wwid", "eui.0123");
  write("8:16/sdb1/partition", "1");
  write("8:16/sdb1/start", "2048");
  write("8:16/sdb2/partition", "2");
  write("8:16/sdb2/start", "4096");
  fs::create_directory_symlink("8:16/sdb1", directory_.path() / "dev/block/8:17");
  fs::create_directory_symlink("8:16/sdb2", directory_.path() / "dev/block/8:18");
  const auto one = mark(makedev(8, 17));
  EXPECT_NE(one, 0U);
  EXPECT_NE(one, mark());
  EXPECT_NE(one, mark(makedev(8, 18)));
}

}  // namespace
}  // namespace rnbd::server
