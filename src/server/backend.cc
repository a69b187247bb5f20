// SPDX-License-Identifier: Apache-2.0
#include "server/backend.h"

#include <cerrno>
#include <fcntl.h>
#include <optional>

#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "server/disk_limits.h"

namespace rnbd::server {
namespace {

constexpr std::uint32_t kBufferedBlock = 512;  // the page cache takes any, the wire counts in these

struct Opened {
  UniqueFd fd;
  wire::IoMode io_mode = wire::IoMode::FileIo;
  std::uint32_t file_block_size = kBufferedBlock;
};

/// Nothing if direct I/O does not work on this disk.
Result<std::optional<Opened>> open_direct(const FoundDisk& disk, int flags) {
  auto fd = disk.reopen(flags | O_DIRECT);
  if (!fd && fd.error().code == EINVAL) return std::nullopt;
  if (!fd) return fail(fd.error());
  if (disk.identity().is_block) return Opened{std::move(*fd), wire::IoMode::BlockIo};
  const auto block_size = direct_block_size(fd->get());
  if (!block_size) return std::nullopt;
  return Opened{std::move(*fd), wire::IoMode::BlockIo, *block_size};
}

Result<Opened> open_in_mode(const FoundDisk& disk, int flags, wire::IoMode io_mode) {
  if (io_mode != wire::IoMode::FileIo) {
    auto direct = open_direct(disk, flags);
    if (!direct) return fail(direct.error());
    if (*direct) return std::move(**direct);
    if (io_mode == wire::IoMode::BlockIo) {
      return fail(EINVAL, fmt::format("{} cannot be used with io_mode=blockio: its file system "
                                      "has no direct I/O",
                                      disk.path()));
    }
  }
  auto fd = disk.reopen(flags);
  if (!fd) return fail(fd.error());
  return Opened{std::move(*fd), wire::IoMode::FileIo};
}

bool is_read_only_device(int fd) {
  int read_only = 0;
  return ::ioctl(fd, BLKROGET, &read_only) == 0 && read_only != 0;
}

}  // namespace

Result<Backend> Backend::open(const FoundDisk& disk, bool writable, wire::IoMode io_mode) {
  auto opened = open_in_mode(disk, writable ? O_RDWR : O_RDONLY, io_mode);
  if (!opened) return fail(opened.error());
  const int fd = opened->fd.get();
  const bool is_block = disk.identity().is_block;
  // open(2) lets a read-only device be opened for writing and fails the writes.
  if (writable && is_block && is_read_only_device(fd)) {
    return fail(EACCES, fmt::format("{} is a read-only device", disk.path()));
  }
  auto limits = is_block ? block_device_limits(fd, writable)
                         : file_limits(fd, opened->file_block_size, writable);
  if (!limits) {
    return fail(limits.error().code, fmt::format("{}: {}", disk.path(), limits.error().message));
  }
  if (limits->sectors == 0) {
    return fail(EINVAL, fmt::format("{} is empty or smaller than a block of {} bytes", disk.path(),
                                    limits->logical_block_size));
  }
  Backend backend;
  backend.fd_ = std::move(opened->fd);
  backend.limits_ = *limits;
  backend.io_mode_ = opened->io_mode;
  backend.writable_ = writable;
  backend.is_block_ = is_block;
  return backend;
}

Result<bool> Backend::refresh_size() {
  const auto sectors = disk_sectors(fd_.get(), is_block_, limits_.logical_block_size);
  if (!sectors) return fail(sectors.error());
  if (*sectors == 0 || *sectors == limits_.sectors) return false;
  limits_.sectors = *sectors;
  return true;
}

Result<UniqueFd> claim_for_writing(const FoundDisk& disk) {
  if (!disk.identity().is_block) return UniqueFd();
  auto claim = disk.reopen(O_RDONLY | O_EXCL);
  if (!claim && claim.error().code == EBUSY) {
    return fail(EBUSY, fmt::format("{} is mounted or otherwise in use here", disk.path()));
  }
  return claim;
}

}  // namespace rnbd::server
