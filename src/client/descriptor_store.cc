// SPDX-License-Identifier: Apache-2.0
#include "client/descriptor_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <unistd.h>

#include <fmt/format.h>
#include <sys/socket.h>

#include "common/log.h"

namespace rnbd::client {
namespace {

constexpr int kFirstInherited = 3;  // as systemd numbers them
constexpr int kMaxInherited = 65536;

/// A variable, which is gone then: children are not meant.
std::optional<std::string> take_variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) return {};
  std::string text = value;
  ::unsetenv(name);
  return text;
}

int to_number(const std::string& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() ? number : -1;
}

}  // namespace

Result<DescriptorStore> DescriptorStore::from_environment() {
  DescriptorStore store;
  const auto count_text = take_variable("LISTEN_FDS");
  const auto pid_text = take_variable("LISTEN_PID");
  const auto names = take_variable("LISTEN_FDNAMES");
  if (count_text && pid_text && to_number(*pid_text) == ::getpid()) {
    const int count = to_number(*count_text);
    if (count < 0 || count > kMaxInherited) return fail(EINVAL, "LISTEN_FDS makes no sense");
    std::string_view rest = names ? std::string_view(*names) : std::string_view();
    for (int fd = kFirstInherited; fd < kFirstInherited + count; ++fd) {
      const std::string name(rest.substr(0, rest.find(':')));
      rest.remove_prefix(std::min(rest.size(), name.size() + 1));
      if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return fail(errno, fmt::format("inherited descriptor {} ({}) is not there", fd, name));
      }
      store.inherited_.insert_or_assign(name, UniqueFd(fd));
    }
  }
  const auto room = take_variable("FDSTORE");
  store.room_ = room && to_number(*room) > 0;
  const auto keeper = take_variable("NOTIFY_SOCKET");
  if (!keeper) return store;
  if (Status known = store.set_keeper(*keeper); !known) return fail(known.error());
  return store;
}

Status DescriptorStore::set_keeper(const std::string& path) {
  const bool abstract = path.starts_with('@');
  if ((!abstract && !path.starts_with('/')) || path.size() >= sizeof keeper_.sun_path) {
    return fail(EINVAL, fmt::format("NOTIFY_SOCKET={} makes no sense", path));
  }
  keeper_.sun_family = AF_UNIX;
  std::ranges::copy(path, keeper_.sun_path);
  if (abstract) keeper_.sun_path[0] = '\0';
  keeper_length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_) return fail(errno, "cannot make a socket for notifications");
  return {};
}

Status DescriptorStore::keep(const std::string& name, int fd) {
  if (!has_keeper()) return {};
  // FDPOLL=0: a socket whose other end is closed is still ours to read.
  return tell(fmt::format("FDSTORE=1\nFDNAME={}\nFDPOLL=0", name), fd);
}

void DescriptorStore::forget(const std::string& name) {
  if (!has_keeper()) return;
  if (Status told = tell(fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name)); !told) {
    log::warn("{} stays kept: {}", name, describe(told.error()));
  }
}

void DescriptorStore::tell_ready() {
  if (keeper_length_ == 0) return;
  if (Status told = tell("READY=1"); !told) log::warn("{}", describe(told.error()));
}

Status DescriptorStore::tell(std::string_view text, int fd) {
  iovec piece{const_cast<char*>(text.data()), text.size()};  // NOLINT(*-const-cast): only read
  msghdr message{};
  message.msg_name = &keeper_;
  message.msg_namelen = keeper_length_;
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
    if (errno != EINTR) return fail(errno, "cannot tell the keeper of descriptors");
  }
  return {};
}

}  // namespace rnbd::client
