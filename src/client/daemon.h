// SPDX-License-Identifier: Apache-2.0
// Starting the client daemon: what `rnbd-client daemon` hands over. Called once, on the main
// thread.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "client/map_defaults.h"
#include "common/control/messages.h"
#include "common/control/sockets.h"
#include "common/spin.h"

namespace rnbd::client {

struct DaemonOptions {
  std::string control_path = control::kClientSocket;  ///< Unix socket to take commands on
  std::string config_file;                  ///< what the rest was read from; empty: no file
  std::string log_level = "info";           ///< one of kLogLevels (common/words.h)
  std::uint32_t spin_us = kDefaultSpinUs;   ///< µs that a worker looks for work at most
  std::uint32_t slow_io_ms = 0;             ///< requests that take so long are logged; 0: none
  std::string metrics_listen;               ///< as parse_metrics_address() has it; empty: nowhere
  MapDefaults map_defaults;                 ///< of mappings to come
  std::string state_dir = "/var/lib/rnbd";  ///< for what outlives the daemon; empty: nowhere
  /// Keep the daemon's devices when it dies, and start it again: a process of its own stays for
  /// that, as systemd does.
  bool supervise = false;
  /// With which it is started again; none of them says to supervise.
  std::vector<std::string> arguments;
  /// Makes `fresh`, which has the defaults, what the files and the command line say now; for
  /// reloading. Any thread, one at a time.
  std::function<std::expected<void, control::Failure>(DaemonOptions& fresh)> read_again;
};

/// Runs the daemon in the foreground until SIGINT or SIGTERM. `options` have been checked. Returns
/// the program's exit code (common/control/exit_codes.h); what went wrong is in the log.
int run_daemon(const DaemonOptions& options);

}  // namespace rnbd::client
