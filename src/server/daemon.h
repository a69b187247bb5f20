// SPDX-License-Identifier: Apache-2.0
// Starting the server daemon: what `rnbd-server daemon` hands over. Called once, on the main
// thread.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "common/control/messages.h"
#include "common/control/sockets.h"
#include "common/spin.h"
#include "server/limit_options.h"
#include "server/named_exports.h"

namespace rnbd::server {

/// Names, units and defaults are those of the kernel's module parameters where it has them.
struct DaemonOptions {
  std::string control_path = control::kServerSocket;  ///< Unix socket to take commands on
  std::string config_file;                 ///< what the rest was read from; empty: no file
  std::uint16_t port_nr = 1234;            ///< to listen on
  std::string dev_search_path = "/";       ///< names are below it; may hold %SESSNAME%
  std::uint32_t sess_queue_depth = 512;    ///< chunks of a session; see daemon_options.h for limits
  std::uint32_t max_io_size = 126976;      ///< bytes of one I/O; a chunk has 4096 more
  bool always_invalidate = true;           ///< a new key for a chunk after each I/O
  std::uint32_t hb_interval_ms = 100;      ///< between heartbeats of a path
  std::uint32_t hb_missed_max = 5;         ///< unanswered, after which a path is given up
  std::uint32_t spin_us = kDefaultSpinUs;  ///< µs that a worker looks for work at most
  std::uint32_t slow_io_ms = 0;            ///< requests that take so long are logged; 0: none
  LimitOptions limits;                     ///< of what clients hold
  std::string metrics_listen;              ///< as parse_metrics_address() has it; empty: nowhere
  std::string log_level = "info";          ///< one of kLogLevels (common/words.h)
  std::string state_dir = "/var/lib/rnbd";  ///< for what outlives the daemon; empty: nowhere
  std::vector<NamedExport> exports;         ///< by name, beside dev_search_path
  /// Makes `fresh`, which has the defaults, what the files and the command line say now; for
  /// reloading. Any thread, one at a time.
  std::function<std::expected<void, control::Failure>(DaemonOptions& fresh)> read_again;
};

/// Runs the daemon in the foreground until SIGINT or SIGTERM. `options` have passed check().
/// Returns the program's exit code (common/control/exit_codes.h); what went wrong is in the log.
int run_daemon(const DaemonOptions& options);

}  // namespace rnbd::server
