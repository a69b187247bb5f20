// SPDX-License-Identifier: Apache-2.0
// Telling who started this process, systemd or `rnbd-client daemon --supervise`, how it is:
// sd_notify(3), without its library. A daemon has one; main thread, then control thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <sys/un.h>

#include "common/clock.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd {

/// A variable, which is gone then: children are not meant. No other thread may run yet.
std::optional<std::string> take_variable(const char* name);

/// A whole number that is not negative; nothing for anything else.
std::optional<int> to_count(std::string_view text);

class Notifier {
 public:
  /// Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment. Once, before other
  /// threads come. Errors: EINVAL, if they make no sense.
  static Result<Notifier> from_environment();

  /// Nobody listens.
  Notifier() = default;

  [[nodiscard]] bool listened_to() const { return length_ != 0; }

  /// Lines of sd_notify(3), with a copy of `fd` unless that is -1. They have arrived, but were
  /// perhaps not read, when this returns. Nobody listening is no error. Errors: those of
  /// sendmsg(2).
  Status tell(std::string_view text, int fd = -1);

  /// How often to tell "WATCHDOG=1": twice in the time after which a silent daemon is killed. None:
  /// nobody waits for it.
  [[nodiscard]] std::optional<Duration> watchdog_interval() const { return watchdog_interval_; }

 private:
  Status set_listener(const std::string& path);

  UniqueFd socket_;
  sockaddr_un listener_{};
  socklen_t length_ = 0;
  std::optional<Duration> watchdog_interval_;
};

}  // namespace rnbd
