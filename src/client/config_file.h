// SPDX-License-Identifier: Apache-2.0
// The client daemon's configuration file and its drop-ins: TOML, keys named like the words of `map`
// and the daemon's options. Read at start, on the main thread, and when a command says so, on a
// thread of its own.
//
//   hb_interval_ms = 100
//   mpath_policy = "min-inflight"
//   on_no_path = "fail-after:60"
//   log_level = "info"
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/daemon.h"
#include "common/config_file.h"
#include "common/result.h"

namespace rnbd::client {

inline constexpr const char* kConfigFile = "/etc/rnbd/client.toml";

/// Not empty, fits a socket's address. EINVAL, with a message that begins with "control".
Status check_control(std::string_view path);

/// Overwrites what the file at `path` and its drop-ins set. Errors: EINVAL with
/// "FILE:LINE:COLUMN: reason", and those of reading the files. `options` are unchanged then.
Result<ConfigOrigins> load_config(const std::string& path, DaemonOptions& options);

/// All keys as they are in force.
std::vector<ConfigSetting> show_config(const DaemonOptions& options, const ConfigOrigins& origins);

/// What a daemon that runs with `running` would do differently with `wanted`.
std::vector<std::string_view> changed_keys(const DaemonOptions& running,
                                           const DaemonOptions& wanted);

/// A file that says what is in force with `options`: what a daemon leaves to the one that goes on
/// with its devices, under the name kKeptConfig.
std::string config_text(const DaemonOptions& options);
inline constexpr const char* kKeptConfig = "config";

/// Where that file of the daemon before this one can be read; empty if it left none. Before the
/// environment is taken (descriptor_store.h).
std::string inherited_config();

/// The keys that a file may have.
std::span<const std::string_view> config_keys();

}  // namespace rnbd::client
