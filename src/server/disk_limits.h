// SPDX-License-Identifier: Apache-2.0
// Finding out what an open disk can do, from ioctls, sysfs, statx and harmless trials. Part of
// opening a backend; control thread.
#pragma once

#include <cstdint>
#include <optional>

#include "common/result.h"
#include "server/backend.h"

namespace rnbd::server {

/// The block size that direct I/O on the regular file `fd`, opened with O_DIRECT, has to keep to:
/// a power of two from 512 to 4096 bytes. Nothing if direct I/O does not work there.
std::optional<std::uint32_t> direct_block_size(int fd);

/// Limits of the block device `fd`. `writable`: whether it may be changed through `fd`.
Result<DiskLimits> block_device_limits(int fd, bool writable);

/// Limits of the regular file `fd`, used in blocks of `block_size` bytes. Tries, beyond the file's
/// end, whether holes can be punched.
Result<DiskLimits> file_limits(int fd, std::uint32_t block_size, bool writable);

/// How many sectors (wire::kSectorSize) whole blocks of the open disk make.
Result<std::uint64_t> disk_sectors(int fd, bool is_block, std::uint32_t block_size);

}  // namespace rnbd::server
