// SPDX-License-Identifier: Apache-2.0
// What rnbd-client's daemon is told on its command line and by its files, and `config`.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/config.h"
#include "client/daemon.h"
#include "common/control/messages.h"

namespace rnbd::cli {

/// What the command line says; what it leaves out comes from the files, or is the default.
struct ClientDaemonArguments {
  std::optional<std::string> config_file;
  std::optional<std::string> log_level;
  std::optional<std::int64_t> slow_io_ms;
  std::optional<std::int64_t> spin_us;
  std::optional<std::string> metrics_listen;
  std::optional<std::string> state_dir;

  void add_to(CLI::App& verb);
};

/// Defaults, then the files, then the command line. A process that shall go on with the devices of
/// one before it does so whatever has become of the files: it says so, and keeps to what that one
/// had. Errors: exit codes 2 and 12.
std::expected<client::DaemonOptions, control::Failure> client_daemon_options(
    const ClientDaemonArguments& arguments, const std::optional<std::string>& control);

/// The arguments of a process, without its name and without --supervise.
std::vector<std::string> without_supervise(const std::vector<std::string>& argv);

/// Of client.toml and rnbdtab; a file whose name ends with .toml is the former.
ConfigVerb client_config_verb();

}  // namespace rnbd::cli
