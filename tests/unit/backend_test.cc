// SPDX-License-Identifier: Apache-2.0
// Opening disks: modes of I/O, sizes, limits, and what is refused.
#include "server/backend.h"

#include <cerrno>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "unit/test_disk.h"

namespace rnbd::server {
namespace {

using wire::IoMode;

constexpr std::uint64_t kMiB = 1 << 20;
// A regular file of 4096 bytes on a file system without direct I/O, on every Linux.
constexpr const char* kNoDirectIo = "/sys/kernel/uevent_seqnum";

TEST(Backend, DescribesAFile) {
  const test::TempDirectory directory;
  const FoundDisk disk = test::find_disk(directory.make_file("disk", 3 * kMiB));
  const auto backend = Backend::open(disk, true, IoMode::FileIo);
  ASSERT_TRUE(backend) << describe(backend.error());
  EXPECT_EQ(backend->io_mode(), IoMode::FileIo);
  EXPECT_EQ(backend->size_bytes(), 3 * kMiB);
  EXPECT_TRUE(backend->writable());
  const DiskLimits& limits = backend->limits();
  EXPECT_EQ(limits.sectors, 3 * kMiB / 512);
  EXPECT_EQ(limits.logical_block_size, 512U);
  EXPECT_EQ(limits.physical_block_size, 4096U);
  EXPECT_EQ(limits.cache_policy, wire::kCacheFua | wire::kCacheWriteback);
  EXPECT_EQ(limits.secure_discard_sectors, 0U);
}

TEST(Backend, LearnsThatAFileHasAnotherSize) {
  const test::TempDirectory directory;
  const auto path = directory.make_file("disk", 3 * kMiB);
  auto backend = Backend::open(test::find_disk(path), false, IoMode::FileIo);
  ASSERT_TRUE(backend) << describe(backend.error());
  EXPECT_FALSE(*backend->refresh_size());
  for (const std::uint64_t size : {5 * kMiB, kMiB}) {
    std::filesystem::resize_file(path, size + 100);
    EXPECT_TRUE(*backend->refresh_size());
    EXPECT_EQ(backend->size_bytes(), size) << "whole blocks only";
  }
  std::filesystem::resize_file(path, 0);
  EXPECT_FALSE(*backend->refresh_size());
  EXPECT_EQ(backend->size_bytes(), kMiB) << "there is no device without a block";
}

TEST(Backend, FilesTakeDiscardsWhereHolesCanBePunched) {
  const test::TempDirectory directory("/dev/shm");
  const FoundDisk disk = test::find_disk(directory.make_file("disk", kMiB));
  const auto backend = Backend::open(disk, true, IoMode::FileIo);
  ASSERT_TRUE(backend);
  const DiskLimits& limits = backend->limits();
  EXPECT_GT(limits.max_discard_sectors, 0U);
  EXPECT_GT(limits.max_write_zeroes_sectors, 0U);
  EXPECT_EQ(limits.discard_granularity, 4096U);
  // A length in bytes has to fit the 32 bits it has on the wire.
  EXPECT_LT(std::uint64_t{limits.max_discard_sectors} * 512, std::uint64_t{1} << 32);
}

TEST(Backend, LookingForHolesDoesNotChangeTheFile) {
  const test::TempDirectory directory;
  const auto path = directory.make_file("disk", 0);
  std::ofstream(path) << std::string(10007, 'x');
  const auto before = std::filesystem::file_size(path);
  ASSERT_TRUE(Backend::open(test::find_disk(path), true, IoMode::ServerDefault));
  EXPECT_EQ(std::filesystem::file_size(path), before);
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, std::string(10007, 'x'));
}

TEST(Backend, WhatCannotBeWrittenTakesNoDiscards) {
  const test::TempDirectory directory;
  const FoundDisk disk = test::find_disk(directory.make_file("disk", kMiB));
  const auto backend = Backend::open(disk, false, IoMode::FileIo);
  ASSERT_TRUE(backend);
  EXPECT_FALSE(backend->writable());
  EXPECT_EQ(backend->limits().max_discard_sectors, 0U);
  EXPECT_EQ(backend->limits().max_write_zeroes_sectors, 0U);
}

TEST(Backend, LeavesOutTheTailThatIsNoWholeBlock) {
  const test::TempDirectory directory;
  const FoundDisk disk = test::find_disk(directory.make_file("disk", 10 * 512 + 511));
  const auto backend = Backend::open(disk, true, IoMode::FileIo);
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->limits().sectors, 10U);
}

TEST(Backend, RefusesADiskWithoutABlock) {
  const test::TempDirectory directory;
  for (const std::uint64_t size : {0U, 511U}) {
    const FoundDisk disk = test::find_disk(directory.make_file("disk", size));
    const auto backend = Backend::open(disk, true, IoMode::FileIo);
    ASSERT_FALSE(backend);
    EXPECT_EQ(backend.error().code, EINVAL);
  }
}

TEST(Backend, FallsBackToThePageCacheWithoutDirectIo) {
  const auto backend = Backend::open(test::find_disk(kNoDirectIo), false, IoMode::ServerDefault);
  ASSERT_TRUE(backend) << describe(backend.error());
  EXPECT_EQ(backend->io_mode(), IoMode::FileIo);
}

TEST(Backend, SaysThatBlockIoIsNotToBeHad) {
  const auto backend = Backend::open(test::find_disk(kNoDirectIo), false, IoMode::BlockIo);
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, EINVAL);
  EXPECT_NE(backend.error().message.find("blockio"), std::string::npos);
}

TEST(Backend, BlockIoOpensForDirectIo) {
  const test::TempDirectory directory;
  const FoundDisk disk = test::find_disk(directory.make_file("disk", kMiB));
  const auto backend = Backend::open(disk, true, IoMode::BlockIo);
  if (!backend && backend.error().code == EINVAL) GTEST_SKIP() << "/var/tmp has no direct I/O";
  ASSERT_TRUE(backend) << describe(backend.error());
  EXPECT_EQ(backend->io_mode(), IoMode::BlockIo);
  EXPECT_NE(::fcntl(backend->target().fd, F_GETFL) & O_DIRECT, 0);
  EXPECT_FALSE(backend->target().write_through);
  const auto automatic = Backend::open(disk, true, IoMode::ServerDefault);
  ASSERT_TRUE(automatic);
  EXPECT_EQ(automatic->io_mode(), IoMode::BlockIo);
}

TEST(Backend, FileIoWritesThroughThePageCache) {
  const test::TempDirectory directory;
  const auto backend =
      Backend::open(test::find_disk(directory.make_file("disk", kMiB)), true, IoMode::FileIo);
  ASSERT_TRUE(backend);
  EXPECT_EQ(::fcntl(backend->target().fd, F_GETFL) & O_DIRECT, 0);
  EXPECT_TRUE(backend->target().write_through);
}

class BackendOnBlockDevice : public testing::Test {
 protected:
  void SetUp() override { RNBD_REQUIRE_BLOCK_DEVICE(); }
  static FoundDisk disk() { return test::find_disk(*test::block_device()); }
};

TEST_F(BackendOnBlockDevice, TellsWhatTheKernelTells) {
  const auto backend = Backend::open(disk(), true, IoMode::ServerDefault);
  ASSERT_TRUE(backend) << describe(backend.error());
  const DiskLimits& limits = backend->limits();
  const int fd = backend->target().fd;
  int logical = 0;
  std::uint64_t size = 0;
  ASSERT_EQ(::ioctl(fd, BLKSSZGET, &logical), 0);
  ASSERT_EQ(::ioctl(fd, BLKGETSIZE64, &size), 0);
  EXPECT_EQ(backend->io_mode(), IoMode::BlockIo);
  EXPECT_TRUE(backend->target().is_block);
  EXPECT_EQ(limits.logical_block_size, static_cast<std::uint32_t>(logical));
  EXPECT_EQ(backend->size_bytes(), size);
  EXPECT_GT(limits.max_write_zeroes_sectors, 0U);
  EXPECT_EQ(limits.max_discard_sectors == 0, limits.discard_granularity == 0);

  // Opening leaves what is on the disk alone: read it before and after once more.
  std::string before(4096, '\0');
  std::string after(4096, '\1');
  const UniqueFd plain(::open(test::block_device()->c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::pread(plain.get(), before.data(), before.size(), 0), 4096);
  ASSERT_TRUE(Backend::open(disk(), true, IoMode::FileIo));
  ASSERT_EQ(::pread(plain.get(), after.data(), after.size(), 0), 4096);
  EXPECT_EQ(before, after);
}

TEST_F(BackendOnBlockDevice, ClaimsOnce) {
  const auto claim = claim_for_writing(disk());
  ASSERT_TRUE(claim) << describe(claim.error());
  const auto second = claim_for_writing(disk());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_TRUE(Backend::open(disk(), true, IoMode::BlockIo)) << "a claim keeps no plain opener out";
}

TEST_F(BackendOnBlockDevice, RefusesToWriteToAReadOnlyDevice) {
  const UniqueFd fd(::open(test::block_device()->c_str(), O_RDONLY | O_CLOEXEC));
  int read_only = 1;
  if (::ioctl(fd.get(), BLKROSET, &read_only) != 0) GTEST_SKIP() << "the device refuses BLKROSET";
  const auto writer = Backend::open(disk(), true, IoMode::BlockIo);
  const auto reader = Backend::open(disk(), false, IoMode::BlockIo);
  read_only = 0;
  ASSERT_EQ(::ioctl(fd.get(), BLKROSET, &read_only), 0);
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code, EACCES);
  EXPECT_TRUE(reader);
}

}  // namespace
}  // namespace rnbd::server
