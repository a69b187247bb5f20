// SPDX-License-Identifier: Apache-2.0
#include "cli/server_commands.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/list.h"
#include "cli/program.h"
#include "cli/server_admin.h"
#include "common/control/sockets.h"
#include "common/control/verbs.h"
#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/spin.h"
#include "common/words.h"
#include "server/config_file.h"
#include "server/daemon_options.h"
#include "server/limit_options.h"

namespace rnbd::cli {
namespace {

using server::DaemonOptions;

/// What the command line says; what it leaves out comes from the file, or is the default.
struct DaemonArguments {
  std::optional<std::string> config_file;
  std::optional<std::int64_t> port_nr;
  std::optional<std::string> dev_search_path;
  std::optional<std::int64_t> sess_queue_depth;
  std::optional<std::int64_t> max_io_size;
  std::optional<std::string> always_invalidate;
  std::optional<std::int64_t> hb_interval_ms;
  std::optional<std::int64_t> hb_missed_max;
  std::optional<std::int64_t> slow_io_ms;
  std::optional<std::int64_t> spin_us;
  std::array<std::optional<std::int64_t>, server::kLimitOptions.size()> limits;
  std::optional<std::string> metrics_listen;
  std::optional<std::string> log_level;
  std::optional<std::string> state_dir;
};

template <typename Value, typename Argument, typename Check>
Status override_with(const std::optional<Argument>& argument, Check check, Value& value) {
  if (!argument) return {};
  if (auto checked = check(*argument); !checked) return checked;
  value = static_cast<Value>(*argument);
  return {};
}

Status override_switch(const std::optional<std::string>& argument, bool& value) {
  constexpr std::array<std::string_view, 4> kYes = {"yes", "y", "Y", "true"};
  constexpr std::array<std::string_view, 4> kNo = {"no", "n", "N", "false"};
  if (!argument) return {};
  const bool yes = std::ranges::find(kYes, *argument) != kYes.end();
  if (!yes && std::ranges::find(kNo, *argument) == kNo.end()) {
    return fail(EINVAL, "always_invalidate must be yes or no, not '" + *argument + "'");
  }
  value = yes;
  return {};
}

Status override_limits(const DaemonArguments& arguments, server::LimitOptions& limits) {
  for (std::size_t i = 0; i < arguments.limits.size(); ++i) {
    const server::LimitOption& limit = server::kLimitOptions[i];
    const auto check = [&](std::int64_t value) { return server::check_limit(limit, value); };
    if (Status set = override_with(arguments.limits[i], check, limits.*limit.field); !set) {
      return set;
    }
  }
  return {};
}

Status override_all(const DaemonArguments& arguments, const std::optional<std::string>& control,
                    DaemonOptions& options) {
  for (const Status& status :
       {override_with(control, server::check_control, options.control_path),
        override_with(arguments.port_nr, server::check_port_nr, options.port_nr),
        override_with(arguments.dev_search_path, server::check_dev_search_path,
                      options.dev_search_path),
        override_with(arguments.sess_queue_depth, server::check_sess_queue_depth,
                      options.sess_queue_depth),
        override_with(arguments.max_io_size, server::check_max_io_size, options.max_io_size),
        override_switch(arguments.always_invalidate, options.always_invalidate),
        override_with(arguments.hb_interval_ms, server::check_hb_interval, options.hb_interval_ms),
        override_with(arguments.hb_missed_max, server::check_hb_missed_max, options.hb_missed_max),
        override_with(arguments.slow_io_ms, check_slow_io_ms, options.slow_io_ms),
        override_with(arguments.spin_us, check_spin_us, options.spin_us),
        override_with(arguments.metrics_listen, check_metrics_listen, options.metrics_listen),
        override_with(arguments.log_level, check_log_level, options.log_level),
        override_with(arguments.state_dir, check_state_dir, options.state_dir)}) {
    if (!status) return status;
  }
  return override_limits(arguments, options.limits);
}

/// Defaults, then the files, then the command line. The answer: what the files have set.
std::expected<ConfigOrigins, control::Failure> read_options(
    const DaemonArguments& arguments, const std::optional<std::string>& control,
    DaemonOptions& options) {
  ConfigOrigins origins;
  if (arguments.config_file) {
    auto loaded = server::load_config(*arguments.config_file, options);
    if (!loaded) return config_failure(loaded.error());
    origins = std::move(*loaded);
  }
  if (auto merged = override_all(arguments, control, options); !merged) {
    return usage_failure(merged.error().message);
  }
  const auto fits = server::check_together(options);
  if (fits) return origins;
  if (!arguments.config_file) return usage_failure(fits.error().message);
  return config_failure({EINVAL, *arguments.config_file + ": " + fits.error().message});
}

constexpr const char* kConfigFile = "/etc/rnbd/server.toml";

std::expected<std::vector<std::string>, control::Failure> validate_config(
    const std::optional<std::string>& file) {
  const DaemonArguments arguments{.config_file = file.value_or(kConfigFile)};
  DaemonOptions options;
  if (auto read = read_options(arguments, {}, options); !read) {
    return std::unexpected(read.error());
  }
  auto files = config_files(*arguments.config_file);
  if (!files) return config_failure(files.error());
  return std::move(*files);
}

std::expected<std::vector<ConfigSetting>, control::Failure> effective_config(
    const std::optional<std::string>& file) {
  DaemonOptions options;
  const auto origins = read_options({.config_file = file.value_or(kConfigFile)}, {}, options);
  if (!origins) return std::unexpected(origins.error());
  return server::show_config(options, *origins);
}

std::vector<Finding> examine() {
  std::vector<Finding> findings = examine_rdma("/");
  std::ranges::move(examine_rivals("/"), std::back_inserter(findings));
  if (::access(kConfigFile, F_OK) != 0) return findings;
  DaemonOptions options;
  if (const auto read = read_options({.config_file = kConfigFile}, {}, options); !read) {
    findings.push_back({"config", Verdict::Failed, read.error().error.message, {}});
    return findings;
  }
  const std::string& path = options.dev_search_path;
  const std::string fixed = path.substr(0, path.find('%'));
  if (::access(fixed.c_str(), X_OK) == 0) {
    findings.push_back({"config", Verdict::Ok, fmt::format("{} is exported", path), {}});
  } else {
    findings.push_back(
        {"config", Verdict::Failed,
         fmt::format("dev_search_path {} cannot be entered: {}", fixed, errno_name(errno)),
         fmt::format("mkdir {}, or another dev_search_path in {}", fixed, kConfigFile)});
  }
  return findings;
}

class ServerCommands {
 public:
  using RunDaemon = std::function<int(const DaemonOptions&)>;

  explicit ServerCommands(const RunDaemon& run_daemon)
      : run_daemon_(run_daemon),
        program_("rnbd-server", "Exports block devices and files over RDMA, as RNBD",
                 control::kServerSocket, kConfigFile) {
    add_daemon();
    program_.add_list(ListKind::Server);
    add_session();
    program_.add_stats(ListKind::Server);
    add_revalidate();
    program_.add_events();
    program_.add_doctor(examine);
    program_.add_config(
        {.usual = kConfigFile, .validate = validate_config, .show = effective_config});
    add_reload(program_);
    admin_.add_verbs();
  }

  int run(int argc, const char* const* argv) { return program_.run(argc, argv); }
  [[nodiscard]] ProgramReference reference() const { return program_.reference(); }

 private:
  void add_daemon() {
    CLI::App& verb = program_.add_verb("daemon", "Run the daemon in the foreground",
                                       [this] { return daemon(); });
    verb.add_option("--config", arguments_.config_file,
                    "TOML file with the options below, dashes as underscores")
        ->type_name("FILE");
    verb.add_option("--port-nr", arguments_.port_nr, "Port to listen on [1234]")->type_name("N");
    verb.add_option("--dev-search-path", arguments_.dev_search_path,
                    "Devices are named below it; may hold %SESSNAME% [/]")
        ->type_name("DIR");
    verb.add_option("--sess-queue-depth", arguments_.sess_queue_depth,
                    "Requests in flight for each session [512]")
        ->type_name("N");
    verb.add_option("--max-io-size", arguments_.max_io_size,
                    "Bytes of one I/O, a multiple of 4096 [126976]")
        ->type_name("BYTES");
    verb.add_option("--always-invalidate", arguments_.always_invalidate,
                    "A new key for a buffer after each I/O [yes]")
        ->type_name("yes|no");
    verb.add_option("--hb-interval-ms", arguments_.hb_interval_ms,
                    "Time between heartbeats of a path [100]")
        ->type_name("N");
    verb.add_option("--hb-missed-max", arguments_.hb_missed_max,
                    "Unanswered ones after which a path is given up [5]")
        ->type_name("N");
    verb.add_option("--slow-io-ms", arguments_.slow_io_ms,
                    "Log requests that take so long; 0 logs none [0]")
        ->type_name("N");
    verb.add_option("--spin-us", arguments_.spin_us,
                    "Longest look for work before a worker sleeps, where waits are short; 0: none "
                    "[1000]")
        ->type_name("N");
    for (std::size_t i = 0; i < arguments_.limits.size(); ++i) {
      const server::LimitOption& limit = server::kLimitOptions[i];
      verb.add_option(std::string(limit.option), arguments_.limits[i], limit.help)->type_name("N");
    }
    verb.add_option("--metrics-listen", arguments_.metrics_listen,
                    "Metrics for Prometheus: 127.0.0.1:PORT, [::1]:PORT or unix:/PATH [none]")
        ->type_name("ADDRESS");
    verb.add_option("--log-level", arguments_.log_level, "How much to log [info]")
        ->type_name(fmt::format("{}", fmt::join(kLogLevels, "|")));
    verb.add_option("--state-dir", arguments_.state_dir,
                    "For what outlives the daemon; empty: nowhere [/var/lib/rnbd]")
        ->type_name("DIR");
  }

  void add_session() {
    CLI::App& verb = program_.add_verb(control::kSessionVerb, "List and close clients' sessions",
                                       [this] { return session(); });
    verb.add_option("words", session_words_, "What to do, see below")->type_name("list|close");
    program_.add_table_flags(verb);
    verb.footer(
        "rnbd-server session list\n"
        "rnbd-server session close SESSION [DEVICE]\n"
        "\n"
        "close ends all paths of a session. Its client comes back as soon as it can: what keeps "
        "it\n"
        "away is unmapping there, or drain. With DEVICE, the client's name of it or the disk, "
        "only\n"
        "that is closed, and I/O fails until the client has opened it again.");
  }

  Ended session() {
    constexpr const char* kHint = "see rnbd-server session --help";
    if (session_words_.empty()) return usage_failure("what to do with which session?", kHint);
    const std::string& action = session_words_.front();
    if (action == "list" && session_words_.size() == 1) return list_sessions();
    if (std::ranges::find(control::kSessionActions, action) == control::kSessionActions.end()) {
      return usage_failure(fmt::format("unknown word '{}'{}", action,
                                       did_you_mean(action, control::kSessionActions)),
                           kHint);
    }
    if (session_words_.size() < 2 || session_words_.size() > 3) {
      return usage_failure(action + " needs one session, and takes one device", kHint);
    }
    const auto result = program_.ask(
        control::kSessionVerb,
        control::to_json(control::SessionArgs{
            action, session_words_[1], session_words_.size() == 3 ? session_words_[2] : ""}));
    if (!result) return std::unexpected(result.error());
    return 0;
  }

  Ended list_sessions() {
    return program_.print_answer(
        program_.ask_checked(control::kSessionsVerb, control::Json::object(),
                             control::check_sessions_result),
        sessions_table);
  }

  void add_revalidate() {
    CLI::App& verb = program_.add_verb(
        control::kRevalidateVerb,
        "Look at the sizes of open disks now, and tell clients; the daemon does so once a second. "
        "Lists what has changed",
        [this] { return revalidate(); });
    verb.add_option("device", revalidate_device_, "Disk on this host; all if left out")
        ->type_name("PATH");
    program_.add_table_flags(verb);
  }

  Ended revalidate() {
    return program_.print_answer(
        program_.ask_checked(control::kRevalidateVerb, control::revalidate_args(revalidate_device_),
                             control::check_list_result),
        resized_table);
  }

  Ended daemon() {
    DaemonOptions options;
    options.read_again = [this](DaemonOptions& fresh) -> std::expected<void, control::Failure> {
      if (auto read = read_options(arguments_, program_.control(), fresh); !read) {
        return std::unexpected(read.error());
      }
      return {};
    };
    if (auto read = read_options(arguments_, program_.control(), options); !read) {
      return std::unexpected(read.error());
    }
    return run_daemon_(options);
  }

  const RunDaemon& run_daemon_;
  Program program_;
  ServerAdmin admin_{program_};
  DaemonArguments arguments_;
  std::string revalidate_device_;
  std::vector<std::string> session_words_;
};

}  // namespace

int run_server(int argc, const char* const* argv,
               const std::function<int(const DaemonOptions&)>& run_daemon) {
  return ServerCommands(run_daemon).run(argc, argv);
}

ProgramReference server_reference() {
  const ServerCommands::RunDaemon none;
  return ServerCommands(none).reference();
}

}  // namespace rnbd::cli
