// SPDX-License-Identifier: Apache-2.0
#include "server/export_path.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fcntl.h>

#include <climits>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "common/rnbd_wire.h"
#include "common/text_file.h"

namespace rnbd::server {
namespace {

constexpr std::string_view kSessionMark = "%SESSNAME%";

std::string squeeze_slashes(std::string path) {
  const auto both_slashes = [](char left, char right) { return left == '/' && right == '/'; };
  path.erase(std::unique(path.begin(), path.end(), both_slashes), path.end());
  return path;
}

std::string proc_path(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

std::string real_path(int fd, const std::string& otherwise) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlink(proc_path(fd).c_str(), target.data(), target.size());
  if (length <= 0) return otherwise;
  return {target.data(), static_cast<std::size_t>(length)};
}

/// The peer chose this name: it must be one component of a path and no way out of one.
Status check_session_name(std::string_view name) {
  if (name.empty() || name.size() >= wire::kNameField ||
      name.find_first_of(std::string_view("/.\0", 3)) != std::string_view::npos) {
    return fail(EINVAL, "the session's name cannot stand in a path");
  }
  return {};
}

Status check_name(std::string_view name) {
  if (name.find_first_not_of('/') == std::string_view::npos) {
    return fail(EINVAL, "the device's name is empty");
  }
  if (name.size() >= wire::kNameField) return fail(EINVAL, "the device's name is too long");
  if (name.find('\0') != std::string_view::npos) {
    return fail(EINVAL, "the device's name holds a zero byte");
  }
  if (name.find("..") != std::string_view::npos) {
    return fail(EINVAL, fmt::format("the device's name {} contains \"..\"", name));
  }
  return {};
}

bool is_root_directory(int fd) {
  struct stat here{};
  struct stat root{};
  return ::fstat(fd, &here) == 0 && ::stat("/", &root) == 0 && here.st_dev == root.st_dev &&
         here.st_ino == root.st_ino;
}

int open_confined(int directory, const std::string& name) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  // Every absolute link stays below "/"; below anything else an absolute link counts as leaving.
  how.resolve =
      RESOLVE_NO_MAGICLINKS | (is_root_directory(directory) ? RESOLVE_IN_ROOT : RESOLVE_BENEATH);
  // A rename going on elsewhere makes the kernel give up, and a retry is all it asks for.
  constexpr int kAttempts = 32;
  for (int attempt = 0;; ++attempt) {
    const long fd = ::syscall(SYS_openat2, directory, name.c_str(), &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    if (errno != EAGAIN || attempt == kAttempts) return -1;
  }
}

Result<FoundDisk> identify(UniqueFd location, const std::string& path) {
  struct stat status{};
  if (::fstat(location.get(), &status) != 0) return fail(errno, fmt::format("fstat of {}", path));
  if (!S_ISBLK(status.st_mode) && !S_ISREG(status.st_mode)) {
    return fail(ENOTBLK, fmt::format("{} is neither a block device nor a regular file", path));
  }
  const DiskIdentity identity =
      S_ISBLK(status.st_mode)
          ? DiskIdentity{.is_block = true, .device = status.st_rdev, .inode = 0}
          : DiskIdentity{.is_block = false, .device = status.st_dev, .inode = status.st_ino};
  std::string real = real_path(location.get(), path);
  return FoundDisk(std::move(location), identity, std::move(real));
}

}  // namespace

Result<FoundDisk> find_disk(const std::string& path) {
  UniqueFd location(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!location) return fail(errno, fmt::format("no device {}", path));
  return identify(std::move(location), path);
}

Result<std::uint64_t> size_of(const FoundDisk& disk) {
  const DiskIdentity& identity = disk.identity();
  if (!identity.is_block) {
    struct stat status{};
    if (::stat(disk.path().c_str(), &status) != 0) {
      return fail(errno, fmt::format("cannot look at {}", disk.path()));
    }
    return static_cast<std::uint64_t>(status.st_size);
  }
  const auto text = read_text_file(
      fmt::format("/sys/dev/block/{}:{}/size", major(identity.device), minor(identity.device)));
  if (!text) return fail(text.error());
  std::uint64_t sectors = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), sectors);
  if (error != std::errc{}) return fail(EIO, fmt::format("{} has no size", disk.path()));
  return sectors * wire::kSectorSize;
}

Result<UniqueFd> FoundDisk::reopen(int flags) const {
  UniqueFd fd(::open(proc_path(location_.get()).c_str(), flags | O_CLOEXEC));
  if (!fd) return fail(errno, fmt::format("cannot open {}", path_));
  return fd;
}

Result<SearchPath> SearchPath::create(std::string path) {
  if (!path.starts_with('/')) {
    return fail(EINVAL, fmt::format("dev_search_path \"{}\" is not an absolute path", path));
  }
  if (path.size() >= PATH_MAX) return fail(EINVAL, "dev_search_path is too long");
  return SearchPath(std::move(path));
}

Result<std::string> SearchPath::directory(std::string_view session_name) const {
  const auto mark = path_.find(kSessionMark);
  if (mark == std::string::npos) return squeeze_slashes(path_);
  if (Status status = check_session_name(session_name); !status) return fail(status.error());
  return squeeze_slashes(fmt::format("{}/{}", path_.substr(0, mark), session_name));
}

Result<FoundDisk> SearchPath::find(std::string_view session_name, std::string_view name) const {
  if (Status status = check_name(name); !status) return fail(status.error());
  const auto directory_path = directory(session_name);
  if (!directory_path) return fail(directory_path.error());

  const std::string path = squeeze_slashes(fmt::format("{}/{}", *directory_path, name));
  if (path.size() >= PATH_MAX) return fail(EINVAL, "the device's path is too long");

  const UniqueFd directory(::open(directory_path->c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail(errno, fmt::format("no search directory {}", *directory_path));

  const std::string below = squeeze_slashes(std::string(name));
  UniqueFd location(open_confined(directory.get(), below.substr(below.starts_with('/') ? 1 : 0)));
  if (!location && errno == EXDEV) {
    return fail(EACCES, fmt::format("{} leaves dev_search_path {}", path, *directory_path));
  }
  if (!location) return fail(errno, fmt::format("no device {}", path));

  return identify(std::move(location), path);
}

}  // namespace rnbd::server
