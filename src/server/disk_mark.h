// SPDX-License-Identifier: Apache-2.0
// What a disk is known by over restarts of the server and its host: so that a client that comes
// back is not given another disk under the old name. Control thread.
#pragma once

#include <cstdint>
#include <filesystem>

#include "server/export_path.h"

namespace rnbd::server {

inline constexpr unsigned kDiskMarkBits = 48;

/// A number that stays the same as long as it is the same disk, and differs from other disks' as
/// numbers of 48 bits do: of the serial number, world-wide name or device mapper's uuid of a block
/// device, its place in it if it is a partition, and of file system, inode and birth of a file (a
/// loop device's too). 0: nothing is known that would last. `sys` is /sys, but in tests.
std::uint64_t disk_mark(const FoundDisk& disk, const std::filesystem::path& sys = "/sys");

}  // namespace rnbd::server
