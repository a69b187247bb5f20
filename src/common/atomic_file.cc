// SPDX-License-Identifier: Apache-2.0
#include "common/atomic_file.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

#include <fmt/format.h>

#include "common/unique_fd.h"

namespace rnbd {
namespace {

constexpr mode_t kMode = 0600;
constexpr unsigned kMostDamaged = 1000;

Status write_all(int fd, std::string_view text, const std::string& name) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(errno, fmt::format("cannot write {}", name));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd) != 0) return fail(errno, fmt::format("cannot write {} to its disk", name));
  return {};
}

/// A name is on the disk when its directory is.
Status sync_directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const std::string directory = parent.empty() ? "." : parent;
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    return fail(errno, fmt::format("cannot write {} to its disk", directory));
  }
  return {};
}

Status write_new(const std::string& name, std::string_view text) {
  const UniqueFd fd(
      ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, kMode));
  if (!fd) return fail(errno, fmt::format("cannot create {}", name));
  return write_all(fd.get(), text, name);
}

}  // namespace

Status replace_file(const std::string& path, std::string_view text) {
  const std::string beside = path + ".new";
  Status written = write_new(beside, text);
  if (written && ::rename(beside.c_str(), path.c_str()) != 0) {
    written = fail(errno, fmt::format("cannot replace {}", path));
  }
  if (written) return sync_directory_of(path);
  ::unlink(beside.c_str());
  return written;
}

Result<std::string> set_aside(const std::string& path) {
  for (unsigned number = 1; number < kMostDamaged; ++number) {
    std::string name = fmt::format("{}.damaged-{}", path, number);
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, name.c_str(), RENAME_NOREPLACE) == 0) {
      if (Status synced = sync_directory_of(path); !synced) return fail(synced.error());
      return name;
    }
    if (errno != EEXIST) return fail(errno, fmt::format("cannot rename {}", path));
  }
  return fail(ENOSPC, fmt::format("{} has been damaged {} times", path, kMostDamaged - 1));
}

}  // namespace rnbd
