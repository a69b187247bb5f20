// SPDX-License-Identifier: Apache-2.0
#include "common/control/listen_socket.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <grp.h>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/control/access.h"

namespace rnbd::control {
namespace {

constexpr mode_t kDirectoryMode = 0755;
constexpr mode_t kSocketMode = 0660;
constexpr mode_t kLockMode = 0600;
constexpr int kBacklog = 64;
constexpr std::size_t kGroupBytes = 65536;  // of a line of /etc/group
constexpr uid_t kSameUser = static_cast<uid_t>(-1);
constexpr int kProbeSeconds = 1;

auto errno_failure(std::string doing) { return fail(errno, std::move(doing)); }

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return fail(EINVAL, "the control socket's path is empty");
  if (path.size() >= sizeof(address.sun_path)) {
    return fail(ENAMETOOLONG, fmt::format("{}: a socket's path may have {} bytes", path,
                                          sizeof(address.sun_path) - 1));
  }
  std::ranges::copy(path, address.sun_path);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Status make_directory_of(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) return {};
  if (::mkdir(directory.c_str(), kDirectoryMode) == 0) {
    // The umask may have taken away what commands of the socket's group need.
    if (::chmod(directory.c_str(), kDirectoryMode) == 0) return {};
  } else if (errno == EEXIST) {
    return {};
  }
  return errno_failure(fmt::format("cannot create the directory {}", directory));
}

/// Held from looking at an old socket to listening on the new one.
Result<UniqueFd> lock(const std::string& path) {
  const std::string name = path + ".lock";
  UniqueFd file(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kLockMode));
  if (!file) return errno_failure(fmt::format("cannot open {}", name));
  if (::flock(file.get(), LOCK_EX) != 0) return errno_failure(fmt::format("cannot lock {}", name));
  return file;
}

/// Removes a socket that nobody listens on.
Status remove_stale(const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return errno_failure(fmt::format("cannot look at {}", path));
  }
  if (!S_ISSOCK(found.st_mode)) {
    return fail(EEXIST, fmt::format("{} is there and is no socket; not touching it", path));
  }
  const auto probe = connect_to(path, kProbeSeconds);
  if (probe || probe.error().code != ECONNREFUSED) {
    return fail(EADDRINUSE, fmt::format("a daemon already listens on {}", path));
  }
  if (::unlink(path.c_str()) != 0) {
    return errno_failure(fmt::format("cannot remove the stale socket {}", path));
  }
  return {};
}

/// A unit's Group= has done it already; a daemon that root starts by hand does it here.
Status give_to_readers(const std::string& path) {
  if (::geteuid() != 0 || ::getegid() != 0) return {};
  std::vector<char> text(kGroupBytes);
  group entry{};
  group* found = nullptr;
  // Whatever is wrong with the list of groups: root reaches its daemon.
  if (::getgrnam_r(kReaders, &entry, text.data(), text.size(), &found) != 0) return {};
  if (found == nullptr) return {};
  if (::chown(path.c_str(), kSameUser, found->gr_gid) == 0 || errno == EPERM) return {};
  return errno_failure(fmt::format("cannot give {} to the group {}", path, kReaders));
}

}  // namespace

Result<UniqueFd> listen_at(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return fail(address.error());
  if (auto made = make_directory_of(path); !made) return fail(made.error());
  const auto locked = lock(path);
  if (!locked) return fail(locked.error());
  if (auto removed = remove_stale(path); !removed) return fail(removed.error());

  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return errno_failure("cannot make a socket");
  // Before bind: the file is never wider open than this, whatever the umask. After: nor narrower.
  if (::fchmod(socket.get(), kSocketMode) != 0) return errno_failure("cannot set a socket's mode");
  if (::bind(socket.get(), generic(*address), sizeof(*address)) != 0 ||
      ::chmod(path.c_str(), kSocketMode) != 0) {
    return errno_failure(fmt::format("cannot listen on {}", path));
  }
  if (auto given = give_to_readers(path); !given) return fail(std::move(given.error()));
  if (::listen(socket.get(), kBacklog) != 0) {
    return errno_failure(fmt::format("cannot listen on {}", path));
  }
  return socket;
}

Result<UniqueFd> connect_to(const std::string& path, int seconds) {
  const auto address = unix_address(path);
  if (!address) return fail(address.error());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_failure("cannot make a socket");
  const timeval timeout{.tv_sec = seconds, .tv_usec = 0};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0) {
    return errno_failure("cannot set a socket's timeout");
  }
  if (::connect(socket.get(), generic(*address), sizeof(*address)) != 0) {
    return errno_failure(fmt::format("cannot connect to {}", path));
  }
  return socket;
}

}  // namespace rnbd::control
