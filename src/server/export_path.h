// SPDX-License-Identifier: Apache-2.0
// From a name a client sent to a disk: the name is looked up below dev_search_path and nowhere
// else. What is found is only pointed at (O_PATH), so that looking at a name never opens a device:
// merely opening some of them (a watchdog, a tape) does something. Control thread.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::server {

/// Which disk it is, by whatever name it was reached: the device number of a block device, or the
/// file system and inode of a regular file.
struct DiskIdentity {
  bool is_block = false;
  dev_t device = 0;
  ino_t inode = 0;  ///< 0 for block devices
  friend auto operator<=>(const DiskIdentity&, const DiskIdentity&) = default;
};

/// A block device or regular file that was found. Holds it in place: whatever happens to the name
/// afterwards, reopening answers the same disk.
class FoundDisk {
 public:
  FoundDisk(UniqueFd location, DiskIdentity identity, std::string path)
      : location_(std::move(location)), identity_(identity), path_(std::move(path)) {}

  /// Opens it with `flags` of open(2); O_CLOEXEC is added. Errors: those of open(2).
  [[nodiscard]] Result<UniqueFd> reopen(int flags) const;

  [[nodiscard]] const DiskIdentity& identity() const { return identity_; }
  /// Absolute and free of symbolic links as far as the kernel can tell; for people.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  UniqueFd location_;
  DiskIdentity identity_;
  std::string path_;
};

/// The disk at an absolute path, wherever that leads. Errors: ENOENT; EACCES; ENOTBLK for what is
/// neither a block device nor a regular file; others of open(2).
Result<FoundDisk> find_disk(const std::string& path);

/// Its size, without opening it. Errors: those of stat(2) and of reading sysfs.
Result<std::uint64_t> size_of(const FoundDisk& disk);

/// The server's dev_search_path. With "%SESSNAME%" in it, that and everything behind it stands for
/// the name of the asking session, as in the kernel's rnbd_server.
class SearchPath {
 public:
  /// Errors: EINVAL if `path` is not absolute or too long.
  static Result<SearchPath> create(std::string path);

  /// The disk that `name` means to the session `session_name`. Symbolic links are followed while
  /// they stay inside; below "/" everything is inside. Errors: EINVAL for an empty or too long
  /// name, one with "..", or a session name that cannot be part of a path; ENOENT; EACCES, also for
  /// what leaves the tree; ENOTBLK for what is neither a block device nor a regular file; others of
  /// openat2(2).
  [[nodiscard]] Result<FoundDisk> find(std::string_view session_name, std::string_view name) const;

  [[nodiscard]] const std::string& text() const { return path_; }

 private:
  explicit SearchPath(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] Result<std::string> directory(std::string_view session_name) const;

  std::string path_;
};

}  // namespace rnbd::server
