// SPDX-License-Identifier: Apache-2.0
// The server daemon's configuration file and its drop-ins: TOML, keys named like the kernel's
// parameters. Read at start, on the main thread, and when a command says so, on a thread of its
// own.
//
//   port_nr = 1234
//   dev_search_path = "/dev/exports/%SESSNAME%"
//   sess_queue_depth = 512
//   max_io_size = 126976
//   always_invalidate = true
//   slow_io_ms = 0
//   spin_us = 1000
//   max_sessions = 256   and the others of limit_options.h
//   metrics_listen = "127.0.0.1:9870"
//   control = "/run/rnbd/server.sock"
//   log_level = "info"
//   [[export]]
//   name = "vol1"
//   path = "/dev/vg/vol1"
//   access = "ro"
//
// Exports of a later file are added; one with a known name replaces that.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/config_file.h"
#include "common/result.h"
#include "server/daemon.h"

namespace rnbd::server {

/// Overwrites what the file at `path` and its drop-ins set. Each value has been checked by itself;
/// how they go together is check_together()'s. Errors: EINVAL with "FILE:LINE:COLUMN: reason", and
/// those of reading the files. `options` are unchanged then.
Result<ConfigOrigins> load_config(const std::string& path, DaemonOptions& options);

/// All keys as they are in force.
std::vector<ConfigSetting> show_config(const DaemonOptions& options, const ConfigOrigins& origins);

/// What a daemon that runs with `running` would do differently with `wanted`.
std::vector<std::string_view> changed_keys(const DaemonOptions& running,
                                           const DaemonOptions& wanted);

/// The keys that a file may have.
std::span<const std::string_view> config_keys();

}  // namespace rnbd::server
