// SPDX-License-Identifier: Apache-2.0
#include "common/notifier.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include <fmt/format.h>
#include <sys/socket.h>

namespace rnbd {
namespace {

template <typename Number>
std::optional<Number> to_number(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

/// None if the watchdog is another process's: the variables are inherited.
Result<std::optional<Duration>> read_watchdog() {
  const auto usec = take_variable("WATCHDOG_USEC");
  const auto pid = take_variable("WATCHDOG_PID");
  if (!usec || (pid && to_count(*pid) != ::getpid())) return std::nullopt;
  const auto time = to_number<std::uint64_t>(*usec);
  if (!time || *time < 2 || *time > INT64_MAX / 1000) {
    return fail(EINVAL, fmt::format("WATCHDOG_USEC={} makes no sense", *usec));
  }
  return std::chrono::microseconds(*time / 2);
}

}  // namespace

std::optional<std::string> take_variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) return {};
  std::string text = value;
  ::unsetenv(name);
  return text;
}

std::optional<int> to_count(std::string_view text) {
  const auto number = to_number<int>(text);
  return number && *number >= 0 ? number : std::nullopt;
}

Result<Notifier> Notifier::from_environment() {
  Notifier notifier;
  const auto path = take_variable("NOTIFY_SOCKET");
  const auto interval = read_watchdog();
  if (!interval) return fail(interval.error());
  if (!path) return notifier;
  notifier.watchdog_interval_ = *interval;
  if (Status known = notifier.set_listener(*path); !known) return fail(known.error());
  return notifier;
}

Status Notifier::set_listener(const std::string& path) {
  const bool abstract = path.starts_with('@');
  if ((!abstract && !path.starts_with('/')) || path.size() >= sizeof listener_.sun_path) {
    return fail(EINVAL, fmt::format("NOTIFY_SOCKET={} makes no sense", path));
  }
  listener_.sun_family = AF_UNIX;
  std::ranges::copy(path, listener_.sun_path);
  if (abstract) listener_.sun_path[0] = '\0';
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_) return fail(errno, "cannot make a socket for notifications");
  length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  return {};
}

Status Notifier::tell(std::string_view text, int fd) {
  if (!listened_to()) return {};
  iovec piece{const_cast<char*>(text.data()), text.size()};  // NOLINT(*-const-cast): only read
  msghdr message{};
  message.msg_name = &listener_;
  message.msg_namelen = length_;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  while (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return fail(errno, "cannot tell who started this process");
  }
  return {};
}

}  // namespace rnbd
