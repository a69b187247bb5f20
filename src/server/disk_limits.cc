// SPDX-License-Identifier: Apache-2.0
#include "server/disk_limits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <fcntl.h>
#include <fstream>

#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace rnbd::server {
namespace {

constexpr std::uint32_t kMinBlock = 512;
constexpr std::uint32_t kMaxDirectBlock = 4096;  // what buffers are aligned to
constexpr std::uint32_t kUsualBlock = 4096;      // of file systems and of the page cache

// Lengths are 32 bits on the wire; below that, one operation should not keep a disk for minutes.
constexpr std::uint64_t kMaxDiscardBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxZeroesBytes = std::uint64_t{1} << 30;
// Where the disk cannot write zeroes by itself the kernel writes them out for us, at disk speed.
constexpr std::uint64_t kMaxWrittenZeroesBytes = std::uint64_t{16} << 20;

std::uint32_t whole_sectors(std::uint64_t bytes, std::uint32_t block_size) {
  return static_cast<std::uint32_t>(bytes / block_size * block_size / wire::kSectorSize);
}

std::uint64_t capacity_sectors(std::uint64_t bytes, std::uint32_t block_size) {
  return bytes / block_size * (block_size / wire::kSectorSize);
}

/// The attributes of a block device in sysfs. Those of its queue belong to the whole disk.
class DeviceAttributes {
 public:
  explicit DeviceAttributes(dev_t device)
      : device_(fmt::format("/sys/dev/block/{}:{}", ::major(device), ::minor(device))),
        // Behind the link of a partition's number, ".." is the directory of its disk.
        queue_(::access((device_ + "/queue").c_str(), F_OK) == 0 ? device_ + "/queue"
                                                                 : device_ + "/../queue") {}

  [[nodiscard]] std::uint64_t device(const char* name) const { return number(device_, name); }
  [[nodiscard]] std::uint64_t queue(const char* name) const { return number(queue_, name); }

 private:
  /// 0, which is "cannot" for all of them, where the kernel does not tell.
  static std::uint64_t number(const std::string& directory, const char* name) {
    std::uint64_t value = 0;
    std::ifstream(fmt::format("{}/{}", directory, name)) >> value;
    return value;
  }

  std::string device_;
  std::string queue_;
};

Result<std::uint64_t> device_size(int fd) {
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return fail(errno, "ioctl BLKGETSIZE64");
  return size;
}

/// Of a file on another host's file system: as this host last heard, so that nobody waits for it.
Result<std::uint64_t> file_size(int fd) {
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &status) != 0) {
    return fail(errno, "statx");
  }
  return status.stx_size;
}

Result<std::uint32_t> block_size_of(int fd, unsigned long request, const char* name) {
  std::uint32_t size = 0;
  if (::ioctl(fd, request, &size) != 0) return fail(errno, fmt::format("ioctl {}", name));
  return size;
}

bool can_read_directly(int fd, std::uint32_t block_size) {
  alignas(kMaxDirectBlock) std::array<std::byte, kMaxDirectBlock> block{};
  return ::pread(fd, block.data(), block_size, 0) >= 0;
}

/// Punching behind the end of a file changes nothing but answers whether it can be done.
bool can_punch_holes(int fd, std::uint64_t size) {
  const auto end = static_cast<off_t>((size + kUsualBlock - 1) / kUsualBlock * kUsualBlock);
  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, kUsualBlock) == 0;
}

}  // namespace

std::optional<std::uint32_t> direct_block_size(int fd) {
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    const std::uint32_t size = std::max(status.stx_dio_offset_align, kMinBlock);
    const bool fits = std::has_single_bit(size) && size <= kMaxDirectBlock &&
                      status.stx_dio_mem_align <= kMaxDirectBlock;
    if (status.stx_dio_offset_align == 0 || !fits) return std::nullopt;
    return size;
  }
  // Most file systems do not tell, so ask by doing.
  for (const std::uint32_t size : {kMinBlock, kMaxDirectBlock}) {
    if (can_read_directly(fd, size)) return size;
  }
  return std::nullopt;
}

Result<DiskLimits> block_device_limits(int fd, bool writable) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail(errno, "fstat");
  const auto size = device_size(fd);
  if (!size) return fail(size.error());
  const auto logical = block_size_of(fd, BLKSSZGET, "BLKSSZGET");
  if (!logical) return fail(logical.error());
  const auto physical = block_size_of(fd, BLKPBSZGET, "BLKPBSZGET");
  if (!physical) return fail(physical.error());

  const DeviceAttributes attributes(status.st_rdev);
  DiskLimits limits;
  limits.sectors = capacity_sectors(*size, *logical);
  limits.logical_block_size = *logical;
  limits.physical_block_size = *physical;
  limits.rotational = attributes.queue("rotational") != 0;
  if (!writable) return limits;

  const auto discard = std::min(attributes.queue("discard_max_bytes"), kMaxDiscardBytes);
  limits.max_discard_sectors = whole_sectors(discard, *logical);
  if (limits.max_discard_sectors > 0) {
    limits.discard_granularity = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(attributes.queue("discard_granularity"), *logical, discard));
    limits.discard_alignment = static_cast<std::uint32_t>(attributes.device("discard_alignment"));
  }
  const auto zeroes = attributes.queue("write_zeroes_max_bytes");
  limits.max_write_zeroes_sectors = whole_sectors(
      zeroes == 0 ? kMaxWrittenZeroesBytes : std::min(zeroes, kMaxZeroesBytes), *logical);
  return limits;
}

Result<DiskLimits> file_limits(int fd, std::uint32_t block_size, bool writable) {
  const auto size = file_size(fd);
  if (!size) return fail(size.error());

  DiskLimits limits;
  limits.sectors = capacity_sectors(*size, block_size);
  limits.logical_block_size = block_size;
  limits.physical_block_size = std::max(block_size, kUsualBlock);
  if (writable && can_punch_holes(fd, *size)) {
    limits.max_discard_sectors = whole_sectors(kMaxDiscardBytes, block_size);
    limits.discard_granularity = limits.physical_block_size;
    limits.max_write_zeroes_sectors = whole_sectors(kMaxZeroesBytes, block_size);
  }
  return limits;
}

Result<std::uint64_t> disk_sectors(int fd, bool is_block, std::uint32_t block_size) {
  const auto size = is_block ? device_size(fd) : file_size(fd);
  if (!size) return fail(size.error());
  return capacity_sectors(*size, block_size);
}

}  // namespace rnbd::server
