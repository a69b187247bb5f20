// SPDX-License-Identifier: Apache-2.0
// The kernel's NBD driver with as little behind it as can be: a thread for each socket answers what
// has come, with zeros, and remembers nothing. What it reaches is what a client behind the driver's
// sockets could reach at most. Prints its device's node, and ends with SIGTERM.
//
//   nbd_null SIZE QUEUES    bytes; hardware queues of the device
#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <climits>
#include <fmt/format.h>
#include <sys/socket.h>

#include "client/nbd_netlink.h"
#include "client/nbd_socket.h"
#include "client/nbd_wire.h"

namespace rnbd::client {
namespace {

constexpr int kSocketBytes = 16 << 20;
constexpr std::size_t kReceiveBytes = 1 << 20;  ///< with a call, at most
constexpr std::size_t kRepliesACall = 64;

/// What one socket gets, and what goes back.
class Null {
 public:
  explicit Null(UniqueFd socket)
      : socket_(std::move(socket)), received_(kReceiveBytes), zeros_(kNbdMaxPayload) {}

  /// Until the kernel closes its end.
  void run() {
    for (;;) {
      const ssize_t count =
          ::recv(socket_.get(), received_.data() + kept_, received_.size() - kept_, 0);
      if (count <= 0) return;
      if (!take(std::span(received_).first(kept_ + static_cast<std::size_t>(count)))) return;
      if (!send()) return;
    }
  }

 private:
  /// False: the kernel wants no more.
  bool take(std::span<const std::byte> bytes) {
    for (;;) {
      const std::size_t skipped = std::min(bytes.size(), payload_left_);
      payload_left_ -= skipped;
      bytes = bytes.subspan(skipped);
      if (bytes.size() < sizeof(NbdRequestHeader)) break;
      NbdRequestHeader header;
      std::memcpy(&header, bytes.data(), sizeof header);
      bytes = bytes.subspan(sizeof header);
      const NbdRequest request = to_request(header);
      if (header.magic != kNbdRequestMagic || request.command == NbdCommand::Disconnect)
        return false;
      if (request.command == NbdCommand::Write) payload_left_ = request.length;
      if (replies_ == kRepliesACall && !send()) return false;
      answer(request);
    }
    std::ranges::copy(bytes, received_.begin());
    kept_ = bytes.size();
    return true;
  }

  void answer(const NbdRequest& request) {
    NbdReplyHeader& reply = headers_[replies_++];
    reply = {.magic = kNbdReplyMagic, .error = 0, .cookie = request.cookie};
    pieces_[count_++] = {&reply, sizeof reply};
    if (request.command == NbdCommand::Read) pieces_[count_++] = {zeros_.data(), request.length};
  }

  bool send() {
    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = count_;
    while (message.msg_iovlen > 0) {
      const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (sent < 0) return false;
      auto left = static_cast<std::size_t>(sent);
      while (message.msg_iovlen > 0 && left >= message.msg_iov->iov_len) {
        left -= message.msg_iov->iov_len;
        ++message.msg_iov;
        --message.msg_iovlen;
      }
      if (left == 0) continue;
      message.msg_iov->iov_base = static_cast<std::byte*>(message.msg_iov->iov_base) + left;
      message.msg_iov->iov_len -= left;
    }
    replies_ = count_ = 0;
    return true;
  }

  UniqueFd socket_;
  std::vector<std::byte> received_;
  std::size_t kept_ = 0;          ///< of a header that is not whole
  std::size_t payload_left_ = 0;  ///< of a WRITE, still to come
  std::vector<std::byte> zeros_;
  std::array<NbdReplyHeader, kRepliesACall> headers_{};
  std::array<iovec, 2 * kRepliesACall> pieces_{};
  std::size_t replies_ = 0;
  std::size_t count_ = 0;  ///< of pieces
};

std::optional<std::uint64_t> number(std::string_view word) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value == 0) return {};
  return value;
}

int run(std::uint64_t size_bytes, std::size_t queues) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  auto netlink = NbdNetlink::open();
  if (!netlink) {
    fmt::print(stderr, "nbd_null: {}\n", describe(netlink.error()));
    return 1;
  }
  NbdDeviceConfig config;
  config.size_bytes = size_bytes;
  config.server_flags = kNbdHasFlags | kNbdSendFlush | kNbdCanMultiConn;
  std::vector<UniqueFd> kernels;
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < queues; ++i) {
    auto pair = make_nbd_socket_pair(kSocketBytes);
    if (!pair || ::fcntl(pair->ours.get(), F_SETFL, 0) != 0) {
      fmt::print(stderr, "nbd_null: no sockets\n");
      return 1;
    }
    config.sockets.push_back(pair->kernels.get());
    kernels.push_back(std::move(pair->kernels));
    threads.emplace_back(
        [socket = std::move(pair->ours)]() mutable { Null(std::move(socket)).run(); });
  }
  const auto index = netlink->connect(config);
  kernels.clear();
  if (!index) {
    fmt::print(stderr, "nbd_null: {}\n", describe(index.error()));
    return 1;
  }
  fmt::print("/dev/nbd{}\n", *index);
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  if (const auto done = netlink->disconnect(*index); !done) {
    fmt::print(stderr, "nbd_null: {}\n", describe(done.error()));
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace rnbd::client

int main(int count, char** words) {
  const auto size = count == 3 ? rnbd::client::number(words[1]) : std::nullopt;
  const auto queues = count == 3 ? rnbd::client::number(words[2]) : std::nullopt;
  if (!size || !queues) {
    fmt::print(stderr, "usage: nbd_null SIZE QUEUES\n");
    return 2;
  }
  return rnbd::client::run(*size, *queues);
}
