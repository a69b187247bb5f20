// SPDX-License-Identifier: Apache-2.0
// The server daemon's configuration file: TOML, flat, keys named like the kernel's parameters.
// Read once at start, on the main thread.
//
//   port_nr = 1234
//   dev_search_path = "/dev/exports/%SESSNAME%"
//   sess_queue_depth = 512
//   max_io_size = 126976
//   always_invalidate = true
//   slow_io_ms = 0
//   metrics_listen = "127.0.0.1:9870"
//   control = "/run/rnbd/server.sock"
//   log_level = "info"
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/result.h"
#include "server/daemon.h"

namespace rnbd::server {

/// Overwrites what the file at `path` sets. Each value has been checked by itself; how they go
/// together is check_immediate()'s. Errors: EINVAL with "FILE:LINE:COLUMN: reason", and those of
/// reading the file. `options` are unchanged then.
Status load_config(const std::string& path, DaemonOptions& options);

/// The keys that a file may have.
std::span<const std::string_view> config_keys();

}  // namespace rnbd::server
