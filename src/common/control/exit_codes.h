// SPDX-License-Identifier: Apache-2.0
// The exit codes of both commands and what they mean. Stable: scripts depend on them. This is the
// only place where an errno is turned into one.
#pragma once

#include <array>
#include <cerrno>

namespace rnbd::control {

enum class ExitCode : int {
  Ok = 0,
  Generic = 1,
  Usage = 2,          ///< bad words or options
  Exists = 3,         ///< already mapped
  NotFound = 4,       ///< no such device, session or export
  Busy = 5,           ///< in use
  Refused = 6,        ///< access or authentication refused
  Unreachable = 7,    ///< no path to the server
  TimedOut = 8,       ///< no answer in time; the operation goes on
  Protocol = 9,       ///< the other side speaks another protocol or version
  NoDaemon = 10,      ///< daemon not running
  Partial = 11,       ///< some of several operations succeeded
  ConfigInvalid = 12  ///< the configuration file is wrong
};

inline constexpr int kLastExitCode = 12;

/// No command ends so, but a client daemon that left its devices to the next one: start that now.
inline constexpr int kHandedOver = 75;

struct ErrnoExit {
  int error;
  ExitCode exit;
};

/// What is not listed here is Generic.
inline constexpr std::array kErrnoExits = {
    ErrnoExit{EINVAL, ExitCode::Usage},
    ErrnoExit{EEXIST, ExitCode::Exists},
    ErrnoExit{ENOENT, ExitCode::NotFound},
    ErrnoExit{ENXIO, ExitCode::NotFound},
    ErrnoExit{EBUSY, ExitCode::Busy},
    ErrnoExit{EADDRINUSE, ExitCode::Busy},
    ErrnoExit{EACCES, ExitCode::Refused},
    ErrnoExit{EPERM, ExitCode::Refused},
    ErrnoExit{EROFS, ExitCode::Refused},
    // Nothing can be reached without an RDMA device either.
    ErrnoExit{ENODEV, ExitCode::Unreachable},
    ErrnoExit{ENETDOWN, ExitCode::Unreachable},
    ErrnoExit{ENETUNREACH, ExitCode::Unreachable},
    ErrnoExit{EHOSTDOWN, ExitCode::Unreachable},
    ErrnoExit{EHOSTUNREACH, ExitCode::Unreachable},
    ErrnoExit{EADDRNOTAVAIL, ExitCode::Unreachable},
    ErrnoExit{ECONNREFUSED, ExitCode::Unreachable},
    ErrnoExit{ECONNRESET, ExitCode::Unreachable},
    ErrnoExit{ECONNABORTED, ExitCode::Unreachable},
    ErrnoExit{ENOTCONN, ExitCode::Unreachable},
    // A server that is being drained, a daemon that is stopping.
    ErrnoExit{ESHUTDOWN, ExitCode::Unreachable},
    ErrnoExit{ETIMEDOUT, ExitCode::TimedOut},
    ErrnoExit{EPROTO, ExitCode::Protocol},
    ErrnoExit{EPROTONOSUPPORT, ExitCode::Protocol},
    ErrnoExit{EBADMSG, ExitCode::Protocol},
    ErrnoExit{ENOSYS, ExitCode::Protocol},
};

/// The exit code of an operation that failed with `error`, a positive errno.
constexpr ExitCode exit_code(int error) {
  for (const ErrnoExit& entry : kErrnoExits) {
    if (entry.error == error) return entry.exit;
  }
  return ExitCode::Generic;
}

}  // namespace rnbd::control
