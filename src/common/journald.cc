// SPDX-License-Identifier: Apache-2.0
#include "common/journald.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/log.h"
#include "common/printable.h"

namespace rnbd::log {
namespace {

/// Syslog's, which journald has too.
int priority_of(spdlog::level::level_enum level) {
  constexpr int kError = 3;
  constexpr int kWarning = 4;
  constexpr int kInfo = 6;
  constexpr int kDebug = 7;
  if (level >= spdlog::level::err) return kError;
  if (level == spdlog::level::warn) return kWarning;
  return level <= spdlog::level::debug ? kDebug : kInfo;
}

void add_field(std::string& datagram, std::string_view name, std::string_view value) {
  if (!value.empty()) datagram += fmt::format("{}={}\n", name, printable(value));
}

}  // namespace

bool is_journal(const char* journal_stream, int fd) {
  struct stat status{};
  if (journal_stream == nullptr || ::fstat(fd, &status) != 0) return false;
  return fmt::format("{}:{}", status.st_dev, status.st_ino) == journal_stream;
}

JournaldSink::JournaldSink(std::string path)
    : path_(std::move(path)), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}

void JournaldSink::sink_it_(const spdlog::details::log_msg& message) {
  const int priority = priority_of(message.level);
  const std::string text(message.payload.data(), message.payload.size());
  int error = 0;
  if (lost_ > 0) {
    error = send(priority_of(spdlog::level::warn),
                 fmt::format("{} lines were lost: journald had no room", lost_));
    if (error == 0) lost_ = 0;
  }
  if (error == 0) error = send(priority, text);
  if (error == EAGAIN) {
    ++lost_;
  } else if (error != 0) {
    // With a priority as sd-daemon(3) has it.
    std::fputs(fmt::format("<{}>{}\n", priority, printable(text)).c_str(), stderr);
  }
}

/// 0, or why it is not there.
int JournaldSink::send(int priority, const std::string& text) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::ranges::copy(path_, address.sun_path);
  std::string datagram = fmt::format("PRIORITY={}\n", priority);
  add_field(datagram, "SYSLOG_IDENTIFIER", ::program_invocation_short_name);
  add_field(datagram, "RNBD_SESSION", About::session());
  add_field(datagram, "RNBD_DEVICE", About::device());
  add_field(datagram, "MESSAGE", text);
  const auto sent =
      ::sendto(socket_.get(), datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return sent < 0 ? errno : 0;
}

}  // namespace rnbd::log
