// SPDX-License-Identifier: Apache-2.0
// Who started a daemon, as far as the daemon sees it: the socket that NOTIFY_SOCKET names. The
// variable is set while one of these lives.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/unique_fd.h"
#include "unit/temp_directory.h"

namespace rnbd::test {

class NotifySocket {
 public:
  NotifySocket() {
    const std::string path = (directory_.path() / "notify").string();
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::ranges::copy(path, address.sun_path);
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }
  ~NotifySocket() { ::unsetenv("NOTIFY_SOCKET"); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  /// The next message, and whether a descriptor came with it. Waits for it for so long, then it is
  /// empty.
  std::pair<std::string, bool> next(std::chrono::milliseconds patience = {}) {
    pollfd readable{socket_.get(), POLLIN, 0};
    ::poll(&readable, 1, static_cast<int>(patience.count()));
    std::array<char, 256> text{};
    iovec piece{text.data(), text.size()};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t length = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (length < 0) return {"", false};
    UniqueFd fd;
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message)) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header), sizeof number);
      fd.reset(number);
    }
    return {std::string(text.data(), static_cast<std::size_t>(length)), static_cast<bool>(fd)};
  }

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  TempDirectory directory_;
  UniqueFd socket_;
};

}  // namespace rnbd::test
