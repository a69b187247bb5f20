// SPDX-License-Identifier: Apache-2.0
// Starting the client daemon: what `rnbd-client daemon` hands over. Called once, on the main
// thread.
#pragma once

#include <cstdint>
#include <string>

#include "common/control/sockets.h"

namespace rnbd::client {

struct DaemonOptions {
  std::string control_path = control::kClientSocket;  ///< Unix socket to take commands on
  std::string log_level = "info";                     ///< one of kLogLevels (common/words.h)
  std::uint32_t slow_io_ms = 0;  ///< requests that take so long are logged; 0: none
  std::string metrics_listen;    ///< as parse_metrics_address() has it; empty: nowhere
  /// Keep the daemon's devices when it dies, and start it again: a process of its own stays for
  /// that, as systemd does.
  bool supervise = false;
};

/// Runs the daemon in the foreground until SIGINT or SIGTERM. `options` have been checked. Returns
/// the program's exit code (common/control/exit_codes.h); what went wrong is in the log.
int run_daemon(const DaemonOptions& options);

}  // namespace rnbd::client
