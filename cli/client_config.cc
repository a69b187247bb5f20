// SPDX-License-Identifier: Apache-2.0
#include "cli/client_config.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/output.h"
#include "cli/program.h"
#include "cli/tab.h"
#include "client/config_file.h"
#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/spin.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

using Checked = std::expected<void, control::Failure>;
using Files = std::expected<std::vector<std::string>, control::Failure>;

template <typename Argument, typename Check, typename Value>
Checked take_argument(const std::optional<Argument>& argument, Check check, Value& value) {
  if (!argument) return {};
  if (Status checked = check(*argument); !checked) return usage_failure(checked.error().message);
  value = static_cast<Value>(*argument);
  return {};
}

Checked take_arguments(const ClientDaemonArguments& arguments,
                       const std::optional<std::string>& control, client::DaemonOptions& options) {
  for (const Checked& checked :
       {take_argument(control, client::check_control, options.control_path),
        take_argument(arguments.log_level, check_log_level, options.log_level),
        take_argument(arguments.slow_io_ms, check_slow_io_ms, options.slow_io_ms),
        take_argument(arguments.spin_us, check_spin_us, options.spin_us),
        take_argument(arguments.metrics_listen, check_metrics_listen, options.metrics_listen),
        take_argument(arguments.state_dir, check_state_dir, options.state_dir)}) {
    if (!checked) return checked;
  }
  return {};
}

Checked read_client_options(const ClientDaemonArguments& arguments,
                            const std::optional<std::string>& control,
                            client::DaemonOptions& options) {
  if (arguments.config_file) {
    if (auto loaded = client::load_config(*arguments.config_file, options); !loaded) {
      return config_failure(loaded.error());
    }
  }
  return take_arguments(arguments, control, options);
}

/// With what the daemon before this one had, in place of the files; with defaults if it left
/// nothing.
Checked read_inherited(const ClientDaemonArguments& arguments,
                       const std::optional<std::string>& control, client::DaemonOptions& options) {
  if (const std::string kept = client::inherited_config(); !kept.empty()) {
    if (auto loaded = client::load_config(kept, options); !loaded) {
      std::fputs(failure_text("rnbd-client", "daemon", control::to_failure(loaded.error())).c_str(),
                 stderr);
    }
  }
  options.config_file = arguments.config_file.value_or("");
  return take_arguments(arguments, control, options);
}

/// sd_listen_fds(3): somebody has kept something for this process.
bool is_successor() {
  const char* const kept = std::getenv("LISTEN_FDS");
  return kept != nullptr && std::string_view(kept) != "0";
}

bool is_there(const std::string& file) {
  std::error_code ignored;
  return std::filesystem::exists(file, ignored);
}

Files validate_toml(const std::string& file) {
  client::DaemonOptions options;
  if (auto loaded = client::load_config(file, options); !loaded) {
    return config_failure(loaded.error());
  }
  auto files = config_files(file);
  if (!files) return config_failure(files.error());
  return std::move(*files);
}

Files validate_tab(const std::string& file) {
  if (auto entries = load_tab(file); !entries) return std::unexpected(entries.error());
  return std::vector{file};
}

Files validate_files(const std::optional<std::string>& file) {
  if (file) return file->ends_with(".toml") ? validate_toml(*file) : validate_tab(*file);
  auto files = validate_toml(client::kConfigFile);
  if (!files || !is_there(client::kRnbdtabFile)) return files;
  if (auto tab = validate_tab(client::kRnbdtabFile); !tab) return tab;
  files->emplace_back(client::kRnbdtabFile);
  return files;
}

std::expected<std::vector<ConfigSetting>, control::Failure> show_files(
    const std::optional<std::string>& file) {
  client::DaemonOptions options;
  const auto origins = client::load_config(file.value_or(client::kConfigFile), options);
  if (!origins) return config_failure(origins.error());
  return client::show_config(options, *origins);
}

}  // namespace

void ClientDaemonArguments::add_to(CLI::App& verb) {
  verb.add_option("--config", config_file,
                  "TOML file with the options below, dashes as underscores, and words of map for "
                  "mappings that do not say them")
      ->type_name("FILE");
  verb.add_option("--log-level", log_level, "How much to log [info]")
      ->type_name(fmt::format("{}", fmt::join(kLogLevels, "|")));
  verb.add_option("--slow-io-ms", slow_io_ms, "Log requests that take so long; 0 logs none [0]")
      ->type_name("N");
  verb.add_option("--spin-us", spin_us,
                  "Longest look for work before a worker sleeps, where waits are short; 0: none "
                  "[1000]")
      ->type_name("N");
  verb.add_option("--metrics-listen", metrics_listen,
                  "Metrics for Prometheus: 127.0.0.1:PORT, [::1]:PORT or unix:/PATH [none]")
      ->type_name("ADDRESS");
  verb.add_option("--state-dir", state_dir,
                  "For what outlives the daemon; empty: nowhere [/var/lib/rnbd]")
      ->type_name("DIR");
}

std::expected<client::DaemonOptions, control::Failure> client_daemon_options(
    const ClientDaemonArguments& arguments, const std::optional<std::string>& control) {
  client::DaemonOptions options;
  options.read_again = [arguments, control](client::DaemonOptions& fresh) {
    return read_client_options(arguments, control, fresh);
  };
  auto read = read_client_options(arguments, control, options);
  const bool file_is_wrong = !read && read.error().exit == control::ExitCode::ConfigInvalid;
  if (file_is_wrong && is_successor()) {
    control::Failure failure = read.error();
    failure.hint = "it goes on with the configuration of the daemon before it";
    std::fputs(failure_text("rnbd-client", "daemon", failure).c_str(), stderr);
    read = read_inherited(arguments, control, options);
  }
  if (!read) return std::unexpected(read.error());
  return options;
}

std::vector<std::string> without_supervise(const std::vector<std::string>& argv) {
  std::vector<std::string> arguments(argv.begin() + 1, argv.end());
  std::erase_if(arguments, [](const std::string& one) { return one.starts_with("--supervise"); });
  return arguments;
}

ConfigVerb client_config_verb() {
  return {.usual = fmt::format("{} and {}", client::kConfigFile, client::kRnbdtabFile),
          .validate = validate_files,
          .show = show_files};
}

}  // namespace rnbd::cli
