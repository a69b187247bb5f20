// SPDX-License-Identifier: Apache-2.0
#include "cli/client_commands.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/list.h"
#include "cli/map_help.h"
#include "cli/output.h"
#include "cli/program.h"
#include "cli/udev_names.h"
#include "common/control/sockets.h"
#include "common/control/verbs.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

// A map may try several addresses, each with a time limit of its own in the daemon; an unmap waits
// until what was written is on the server's disk.
constexpr double kMapSeconds = 120;
constexpr double kUnmapSeconds = 30;
// A path that is drained waits for the server's disk.
constexpr double kPathSeconds = 60;
constexpr double kUpgradeSeconds = 10;

constexpr const char* kPathWords =
    "rnbd-client path list [SESSION]\n"
    "rnbd-client path add|remove|reconnect|disconnect|drain SESSION [SRC@]DST\n"
    "rnbd-client path policy SESSION round-robin|min-inflight|min-latency\n"
    "\n"
    "drain sends nothing more on a path, waits for what is on its way, and disconnects it.\n"
    "remove, disconnect and drain of the last connected path need --force.";

class ClientCommands {
 public:
  using RunDaemon = std::function<int(const client::DaemonOptions&)>;

  explicit ClientCommands(const RunDaemon& run_daemon)
      : run_daemon_(run_daemon),
        program_("rnbd-client", "Maps block devices of RNBD servers", control::kClientSocket) {
    add_map();
    add_unmap();
    program_.add_list(ListKind::Client);
    add_path();
    add_upgrade();
    add_udev();
    add_daemon();
  }

  int run(int argc, const char* const* argv) { return program_.run(argc, argv); }
  [[nodiscard]] ProgramReference reference() const { return program_.reference(); }

 private:
  void add_map() {
    CLI::App& verb = program_.add_verb(control::kMapVerb, "Map a device; prints its node",
                                       [this] { return map(); });
    verb.add_option("words", words_, "What to map, see below")->type_name("KEY=VALUE");
    program_.add_timeout(verb, kMapSeconds);
    verb.footer(map_words_text());
  }

  void add_unmap() {
    CLI::App& verb = program_.add_verb(
        control::kUnmapVerb, "Unmap a device; returns when it is gone", [this] { return unmap(); });
    verb.add_option("device", unmap_.device, "Node to unmap")->type_name("/dev/nbdN");
    verb.add_flag("--force", unmap_.force, "Even if it is in use: fail what is in flight");
    program_.add_timeout(verb, kUnmapSeconds);
  }

  void add_upgrade() {
    CLI::App& verb = program_.add_verb(
        control::kUpgradeVerb,
        "Replace the daemon by a new process of the program as it is on disk now; devices go on",
        [this] { return upgrade(); });
    program_.add_timeout(verb, kUpgradeSeconds);
  }

  void add_udev() {
    CLI::App& verb = program_.add_verb(
        "udev", "Print a mapped device's stable names, for udev's rules; needs no daemon",
        [this] { return udev(); });
    verb.add_option("file", backend_file_, "The device's attribute backend in /sys")
        ->type_name("FILE");
  }

  void add_daemon() {
    CLI::App& verb = program_.add_verb("daemon", "Run the daemon in the foreground",
                                       [this] { return daemon(); });
    verb.add_option("--log-level", options_.log_level, "How much to log [info]")
        ->type_name(fmt::format("{}", fmt::join(kLogLevels, "|")));
    verb.add_flag(
        "--supervise", options_.supervise,
        "Stay beside it, and when it dies start it again with its devices; systemd does so "
        "itself");
  }

  void add_path() {
    CLI::App& verb = program_.add_verb(control::kPathVerb, "List and change the paths of sessions",
                                       [this] { return path(); });
    verb.add_option("words", path_words_, "What to do, see below")->type_name("WORD");
    verb.add_flag("--force", path_.force, "Even if no path is left then");
    verb.add_option("--dest-port", path_.port, "Port of a path to add [1234]")->type_name("N");
    program_.add_table_flags(verb);
    program_.add_timeout(verb, kPathSeconds);
    verb.footer(kPathWords);
  }

  Ended path() {
    constexpr const char* kHint = "see rnbd-client path --help";
    if (path_words_.empty()) return usage_failure("what to do with which path?", kHint);
    path_.action = path_words_[0];
    if (path_.action == "list") return list_paths();
    if (std::ranges::find(control::kPathActions, path_.action) == control::kPathActions.end()) {
      return usage_failure(fmt::format("unknown word '{}'{}", path_.action,
                                       did_you_mean(path_.action, control::kPathActions)),
                           kHint);
    }
    if (path_words_.size() != 3) {
      return usage_failure(fmt::format("path {} needs a session and one word more", path_.action),
                           kHint);
    }
    path_.session = path_words_[1];
    path_.path = path_words_[2];
    const auto result = program_.ask(control::kPathVerb, control::to_json(path_));
    if (!result) return std::unexpected(result.error());
    return 0;
  }

  Ended list_paths() {
    if (path_words_.size() > 2) return usage_failure("path list takes one session, or none");
    control::Json args = control::Json::object();
    if (path_words_.size() == 2) args["session"] = path_words_[1];
    const auto result = program_.ask(control::kPathsVerb, std::move(args));
    if (!result) return std::unexpected(result.error());
    if (auto checked = control::check_paths_result(*result); !checked) {
      return std::unexpected(control::to_failure(checked.error()));
    }
    return print_result(program_.json() ? json_text(*result)
                                        : paths_table(*result, program_.headers()));
  }

  Ended map() {
    if (words_.empty()) return usage_failure("what to map?", "see rnbd-client map --help");
    const auto result = program_.ask(control::kMapVerb, control::map_args(words_));
    if (!result) return std::unexpected(result.error());
    const auto device = control::read_map_result(*result);
    if (!device) return std::unexpected(control::to_failure(device.error()));
    return print_result(*device + '\n');
  }

  Ended unmap() {
    if (unmap_.device.empty()) {
      return usage_failure("which device?", "rnbd-client list shows what is mapped");
    }
    const auto result = program_.ask(control::kUnmapVerb, control::to_json(unmap_));
    if (!result) return std::unexpected(result.error());
    return 0;
  }

  Ended upgrade() {
    const auto result = program_.ask(control::kUpgradeVerb, control::upgrade_args());
    if (!result) return std::unexpected(result.error());
    return 0;
  }

  Ended udev() {
    if (backend_file_.empty()) return usage_failure("of which device? /sys/block/nbdN/backend");
    std::ifstream file(backend_file_);
    std::string backend;
    if (!std::getline(file, backend)) {
      return std::unexpected(control::to_failure({ENOENT, "cannot read " + backend_file_}));
    }
    const auto names = udev_names(backend);
    if (!names) return std::unexpected(control::to_failure(names.error()));
    return print_result(fmt::format("RNBD_NAME={}\nRNBD_ID={}\n", names->name, names->id));
  }

  Ended daemon() {
    if (auto known = check_log_level(options_.log_level); !known) {
      return usage_failure(known.error().message);
    }
    options_.control_path = program_.control().value_or(options_.control_path);
    return run_daemon_(options_);
  }

  const RunDaemon& run_daemon_;
  Program program_;
  std::vector<std::string> words_;
  control::UnmapArgs unmap_;
  std::vector<std::string> path_words_;
  control::PathArgs path_;
  std::string backend_file_;
  client::DaemonOptions options_;
};

}  // namespace

int run_client(int argc, const char* const* argv,
               const std::function<int(const client::DaemonOptions&)>& run_daemon) {
  return ClientCommands(run_daemon).run(argc, argv);
}

ProgramReference client_reference() {
  const ClientCommands::RunDaemon none;
  return ClientCommands(none).reference();
}

}  // namespace rnbd::cli
