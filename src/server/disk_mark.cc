// SPDX-License-Identifier: Apache-2.0
#include "server/disk_mark.h"

#include <array>
#include <fcntl.h>
#include <fstream>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

namespace rnbd::server {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Everything that tells a file from others, in words; empty if its file system does not say.
std::string describe_file(const std::string& path) {
  struct statfs system{};
  struct statx file{};
  if (::statfs(path.c_str(), &system) != 0 ||
      ::statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &file) != 0) {
    return {};
  }
  const auto& id = system.f_fsid.__val;
  if (id[0] == 0 && id[1] == 0) return {};
  const bool born = (file.stx_mask & STATX_BTIME) != 0;
  return fmt::format("file {} {} {} {} {}", id[0], id[1], file.stx_ino,
                     born ? file.stx_btime.tv_sec : 0, born ? file.stx_btime.tv_nsec : 0U);
}

std::string describe_disk(const fs::path& directory) {
  constexpr std::array kNames = {"dm/uuid", "wwid", "device/wwid", "serial", "device/serial"};
  for (const char* name : kNames) {
    if (const std::string line = first_line(directory / name); !line.empty()) {
      return fmt::format("{} {}", name, line);
    }
  }
  const std::string backing = first_line(directory / "loop/backing_file");
  return backing.empty() ? std::string() : describe_file(backing);
}

std::string describe_block_device(const fs::path& directory) {
  const std::string partition = first_line(directory / "partition");
  if (partition.empty()) return describe_disk(directory);
  const std::string whole = describe_disk(directory / "..");
  if (whole.empty()) return {};
  return fmt::format("{} partition {} at {}", whole, partition, first_line(directory / "start"));
}

/// FNV-1a, folded.
std::uint64_t mark_of(std::string_view text) {
  if (text.empty()) return 0;
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : text) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kDiskMarkBits) - 1;
  const std::uint64_t mark = (hash ^ hash >> kDiskMarkBits) & kMask;
  return mark == 0 ? 1 : mark;
}

}  // namespace

std::uint64_t disk_mark(const FoundDisk& disk, const fs::path& sys) {
  const DiskIdentity& identity = disk.identity();
  if (!identity.is_block) return mark_of(describe_file(disk.path()));
  std::error_code error;
  const fs::path number = fmt::format("{}:{}", major(identity.device), minor(identity.device));
  const fs::path directory = fs::canonical(sys / "dev/block" / number, error);
  return error ? 0 : mark_of(describe_block_device(directory));
}

}  // namespace rnbd::server
