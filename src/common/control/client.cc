// SPDX-License-Identifier: Apache-2.0
#include "common/control/client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>

#include <fmt/format.h>
#include <sys/socket.h>

#include "common/control/listen_socket.h"

namespace rnbd::control {
namespace {

constexpr int kSendSeconds = 5;  // a living daemon takes requests at once
constexpr std::chrono::milliseconds kLongestPoll = std::chrono::seconds(1);

std::string how_to_start(const DaemonAddress& daemon) {
  if (daemon.path == daemon.default_socket) {
    const std::string& file = daemon.config_file;
    return fmt::format("start it: systemctl start {0}, or in the foreground: {0} daemon{1}",
                       daemon.program, file.empty() ? "" : " --config " + file);
  }
  return fmt::format("start it: {} daemon --control {}", daemon.program, daemon.path);
}

Failure no_connection(const Error& error, const DaemonAddress& daemon) {
  if (error.code == ENOENT || error.code == ECONNREFUSED) {
    return {{error.code, fmt::format("no daemon listens on {}", daemon.path)},
            ExitCode::NoDaemon,
            how_to_start(daemon)};
  }
  Failure failure = to_failure(error);
  if (error.code == EACCES) failure.hint = "run it as root; to look only, be in the group rnbd";
  if (error.code == EAGAIN) failure = to_failure({ETIMEDOUT, "the daemon is too busy to answer"});
  return failure;
}

/// Waits until there is something to read. False: `deadline` passed.
Result<bool> readable(int fd, std::chrono::steady_clock::time_point deadline,
                      const std::function<void()>& waiting) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd socket{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&socket, 1, static_cast<int>(std::min(left, kLongestPoll).count()));
    if (ready > 0) return true;
    if (ready == 0) waiting();
    if (ready < 0 && errno != EINTR) return fail(errno, "cannot wait for the daemon");
  }
}

}  // namespace

std::expected<Client, Failure> Client::connect(const DaemonAddress& daemon) {
  auto socket = connect_to(daemon.path, kSendSeconds);
  if (!socket) return std::unexpected(no_connection(socket.error(), daemon));
  return Client(std::move(*socket), daemon.program);
}

Failure Client::went_away(int code) const {
  return {{code, "the daemon went away before it answered"},
          ExitCode::NoDaemon,
          fmt::format("its log may say why: journalctl -u {}", program_)};
}

Outcome Client::call(const Request& request, std::chrono::milliseconds timeout,
                     const std::function<void()>& waiting) {
  const auto line = encode(request);
  if (!line) return std::unexpected(to_failure(line.error()));
  if (auto sent = send(*line); !sent) return std::unexpected(went_away(sent.error().code));
  auto reply = receive(timeout, waiting);
  if (!reply) return std::unexpected(std::move(reply.error()));
  return decode_reply(*reply);
}

Status Client::send(std::string_view line) {
  while (!line.empty()) {
    const ssize_t sent = ::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      line.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EINTR) {
      return fail(errno, "cannot send to the daemon");
    }
  }
  return {};
}

std::expected<std::string, Failure> Client::receive(std::chrono::milliseconds timeout,
                                                    const std::function<void()>& waiting) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::array<char, 16384> piece{};
  std::size_t searched = 0;
  for (;;) {
    if (const auto newline = buffer_.find('\n', searched); newline != std::string::npos) {
      std::string line = buffer_.substr(0, newline);
      buffer_.erase(0, newline + 1);
      return line;
    }
    searched = buffer_.size();
    if (searched > kMaxReplyLine) {
      return std::unexpected(to_failure({EPROTO, "the daemon's answer has no end"}));
    }
    const auto ready = readable(socket_.get(), deadline, waiting);
    if (!ready) return std::unexpected(to_failure(ready.error()));
    if (!*ready) {
      return std::unexpected(
          to_failure({ETIMEDOUT, fmt::format("no answer within {:g} s; the operation goes on",
                                             std::chrono::duration<double>(timeout).count())}));
    }
    const ssize_t got = ::recv(socket_.get(), piece.data(), piece.size(), 0);
    if (got > 0) {
      buffer_.append(piece.data(), static_cast<std::size_t>(got));
    } else if (got == 0) {
      return std::unexpected(went_away(ECONNRESET));
    } else if (errno != EINTR) {
      return std::unexpected(went_away(errno));
    }
  }
}

}  // namespace rnbd::control
