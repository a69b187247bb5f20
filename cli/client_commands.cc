// SPDX-License-Identifier: Apache-2.0
#include "cli/client_commands.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/client_config.h"
#include "cli/list.h"
#include "cli/map_help.h"
#include "cli/output.h"
#include "cli/program.h"
#include "cli/session_commands.h"
#include "cli/tab.h"
#include "cli/udev_names.h"
#include "cli/views.h"
#include "client/config_file.h"
#include "common/control/sockets.h"
#include "common/control/verbs.h"
#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

// A map may try several addresses, each with a time limit of its own in the daemon; an unmap waits
// until what was written is on the server's disk.
constexpr double kMapSeconds = 120;
constexpr double kUnmapSeconds = 30;
// A path that is drained waits for the server's disk.
constexpr double kPathSeconds = 60;
constexpr double kResizeSeconds = 30;
constexpr double kUpgradeSeconds = 10;

// Of a line of rnbdtab that somebody else is mapping.
constexpr std::chrono::milliseconds kLookAtTabAgain{200};
constexpr int kLooks = 300;

constexpr const char* kWhichDevice = "rnbd-client list shows what is mapped";

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
        program_("rnbd-client", "Maps block devices of RNBD servers", control::kClientSocket,
                 client::kConfigFile),
        session_commands_(program_) {
    add_map();
    add_unmap();
    program_.add_list(ListKind::Client);
    add_views();
    program_.add_stats(ListKind::Client);
    add_apply();
    add_resize();
    add_path();
    program_.add_events();
    program_.add_doctor([this] { return examine(); });
    program_.add_config(client_config_verb());
    add_reload(program_);
    add_upgrade();
    add_udev();
    add_daemon();
  }

  int run(int argc, const char* const* argv) {
    argv_.assign(argv, argv + argc);
    return program_.run(argc, argv);
  }
  [[nodiscard]] ProgramReference reference() const { return program_.reference(); }

 private:
  void add_map() {
    CLI::App& verb = program_.add_verb(control::kMapVerb, "Map a device; prints its node",
                                       [this] { return map(); });
    verb.add_option("words", words_, "What to map, see below")->type_name("KEY=VALUE");
    add_tab_option(verb, "Map what this line of rnbdtab says; one that is mapped already is fine");
    program_.add_timeout(verb, kMapSeconds);
    verb.footer(map_words_text());
  }

  void add_unmap() {
    CLI::App& verb = program_.add_verb(
        control::kUnmapVerb, "Unmap a device; returns when it is gone", [this] { return unmap(); });
    verb.add_option(
            "device", unmap_.device,
            "Node to unmap; SESSION/DEVICE of what was mapped with persist=yes and is still "
            "waiting for its server")
        ->type_name("/dev/nbdN");
    add_tab_option(verb, "Unmap what this line of rnbdtab has mapped");
    verb.add_flag("--force", unmap_.force, "Even if it is in use: fail what is in flight");
    program_.add_timeout(verb, kUnmapSeconds);
  }

  void add_tab_option(CLI::App& verb, const char* help) {
    verb.add_option("--tab", tab_name_, help)->type_name("NAME");
    add_tab_file(verb);
  }

  void add_tab_file(CLI::App& verb) {
    verb.add_option("--tab-file", tab_file_, fmt::format("The tab [{}]", client::kRnbdtabFile))
        ->type_name("FILE");
  }

  void add_views() {
    CLI::App& tree = program_.add_verb("tree", "Show sessions with their paths and devices",
                                       [this] { return view([this] { return tree_of_all(); }); });
    tree.add_flag("--json", view_json_, "Print JSON: what list and path list say");
    CLI::App& show =
        program_.add_verb("show", "Show all that is known of a device, session or path",
                          [this] { return view([this] { return show_one(); }); });
    add_object(show);
    show.add_flag("--json", view_json_, "Print JSON; errors too, as {\"error\":{…}}");
    CLI::App& check = program_.add_verb(
        "check",
        "Say how a device, a session, a path or everything is, as monitoring plugins do: exit code "
        "0 if it is well, 1 if a path is missing, 2 if I/O waits or fails, 3 if it is not mapped",
        [this] { return view([this] { return check_one(); }); });
    add_object(check);
  }

  void add_object(CLI::App& verb) {
    verb.add_option("object", object_,
                    "/dev/nbdN, SESSION/DEVICE, the server's name of a device, SESSION or path")
        ->type_name("OBJECT");
  }

  /// Asks what is there, in list_ and paths_, and then does the rest.
  Ended view(const std::function<Ended()>& rest) {
    auto all = program_.ask_everything();
    if (!all) return std::unexpected(all.error());
    list_ = std::move(all->list);
    paths_ = std::move(all->paths);
    return rest();
  }

  Ended tree_of_all() {
    if (!view_json_) return print_result(tree_text(list_, paths_));
    list_["paths"] = paths_.at("paths");
    return print_result(json_text(list_));
  }

  Ended show_one() {
    if (object_.empty()) return usage_failure("show what?", "rnbd-client tree shows what there is");
    const auto found = find_object(list_, paths_, object_);
    if (!found) return std::unexpected(control::to_failure(found.error()));
    return print_result(view_json_ ? json_text(*found) : show_text(*found));
  }

  Ended check_one() {
    const CheckResult result = check(list_, paths_, object_);
    if (auto printed = print_result(result.text + '\n'); !printed) return printed;
    return std::to_underlying(result.health);
  }

  void add_apply() {
    CLI::App& verb =
        program_.add_verb("apply", "Map what rnbdtab says and is not mapped; prints what it does",
                          [this] { return apply(); });
    verb.add_flag("-n,--dry-run", dry_run_, "Only print what would be done");
    verb.add_flag("--prune", prune_, "Also unmap what rnbdtab does not name");
    add_tab_file(verb);
    verb.add_flag("--json", apply_json_, "Print JSON; errors too, as {\"error\":{…}}");
    program_.add_timeout(verb, kMapSeconds);
  }

  void add_resize() {
    CLI::App& verb = program_.add_verb(
        control::kResizeVerb,
        "Ask the server how large a device is now, and give it that size; prints the bytes. "
        "rnbd-server says by itself when a size has changed, the kernel's server does not",
        [this] { return resize(); });
    verb.add_option("device", resize_device_, "Node to resize")->type_name("/dev/nbdN");
    program_.add_timeout(verb, kResizeSeconds);
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
    arguments_.add_to(verb);
    verb.add_flag(
        "--supervise", supervise_,
        "Stay beside it, and when it dies start it again with its devices; systemd does so "
        "itself");
  }

  std::vector<Finding> examine() {
    std::vector<Finding> findings = examine_rdma("/");
    std::ranges::move(examine_nbd("/"), std::back_inserter(findings));
    if (const auto entries = load_tab(tab_file_)) {
      findings.push_back({"rnbdtab",
                          Verdict::Ok,
                          fmt::format("{} names {} devices", tab_file_, entries->size()),
                          {}});
    } else if (entries.error().exit == control::ExitCode::ConfigInvalid) {
      findings.push_back({"rnbdtab", Verdict::Failed, entries.error().error.message, {}});
    }
    // Without a daemon there is nothing to be well.
    static_cast<void>(view([&]() -> Ended {
      const CheckResult result = check(list_, paths_, {});
      const bool well = result.health == Health::Healthy;
      const bool failed = result.health == Health::Failed;
      findings.push_back({"mapped",
                          well     ? Verdict::Ok
                          : failed ? Verdict::Failed
                                   : Verdict::Warning,
                          result.text, well ? "" : "rnbd-client tree; rnbd-client recover"});
      return 0;
    }));
    return findings;
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
    if (path_.action == "drain") {
      program_.set_progress([] { return "what is on its way on it is waited for"; });
    }
    const auto result = program_.ask(control::kPathVerb, control::to_json(path_));
    if (!result) return std::unexpected(result.error());
    return 0;
  }

  Ended list_paths() {
    if (path_words_.size() > 2) return usage_failure("path list takes one session, or none");
    control::Json args = control::Json::object();
    if (path_words_.size() == 2) args["session"] = path_words_[1];
    return program_.print_answer(
        program_.ask_checked(control::kPathsVerb, std::move(args), control::check_paths_result),
        paths_table);
  }

  Ended map() {
    if (!tab_name_.empty()) return map_by_tab();
    if (words_.empty()) return usage_failure("what to map?", "see rnbd-client map --help");
    const auto device = map_words(words_);
    if (!device) return std::unexpected(device.error());
    return print_result(*device + '\n');
  }

  /// The node.
  std::expected<std::string, control::Failure> map_words(const std::vector<std::string>& words) {
    program_.set_progress([this] { return what_is_not_connected(); });
    const auto result = program_.ask(control::kMapVerb, control::map_args(words));
    if (!result) return std::unexpected(result.error());
    auto device = control::read_map_result(*result);
    if (!device) return std::unexpected(control::to_failure(device.error()));
    return std::move(*device);
  }

  /// What a mapping that lasts may wait for.
  std::string what_is_not_connected() {
    const auto paths = program_.peek(control::kPathsVerb, control::Json::object());
    if (!paths || !control::check_paths_result(*paths)) return {};
    for (const control::Json& path : paths->at("paths")) {
      if (path.value("state", "") == "connected") continue;
      const std::string error = path.value("last_error", "");
      return fmt::format("path {} {}{}{}", path.value("path", ""), path.value("state", ""),
                         error.empty() ? "" : ": ", error);
    }
    return {};
  }

  Ended map_by_tab() {
    if (!words_.empty()) return usage_failure("--tab takes its words from rnbdtab, and no others");
    const auto line = find_line();
    if (!line) return std::unexpected(line.error());
    if (!line->device.empty()) return print_result(line->device + '\n');
    auto device = map_words(line->entry.words);
    // Somebody else may be mapping it just now: the daemon itself, if it was mapped with
    // persist=yes.
    for (int i = 0; i < kLooks && !device && device.error().error.code == EEXIST; ++i) {
      std::this_thread::sleep_for(kLookAtTabAgain);
      const auto again = find_line();
      if (!again) return std::unexpected(again.error());
      if (!again->device.empty()) return print_result(again->device + '\n');
      device = map_words(line->entry.words);
    }
    if (!device) return std::unexpected(device.error());
    return print_result(*device + '\n');
  }

  struct Line {
    client::TabEntry entry;
    std::string device;  ///< empty: it is not mapped
  };

  std::expected<Line, control::Failure> find_line() {
    const auto entries = load_tab(tab_file_);
    if (!entries) return std::unexpected(entries.error());
    auto entry = find_in_tab(*entries, tab_name_);
    if (!entry) return std::unexpected(control::to_failure(entry.error()));
    const auto devices = list_devices();
    if (!devices) return std::unexpected(devices.error());
    const MappedDevice* const mapped = mapped_as(*entry, *devices);
    return Line{std::move(*entry), mapped == nullptr ? std::string() : mapped->device};
  }

  std::expected<std::vector<MappedDevice>, control::Failure> list_devices() {
    const auto list = program_.ask_checked(control::kListVerb, control::Json::object(),
                                           control::check_list_result);
    if (!list) return std::unexpected(list.error());
    return mapped_devices(*list);
  }

  Ended apply() {
    const auto entries = load_tab(tab_file_);
    if (!entries) return std::unexpected(entries.error());
    const auto devices = list_devices();
    if (!devices) return std::unexpected(devices.error());
    TabChanges changes(*entries, *devices, prune_);
    if (!dry_run_) {
      for (TabChange& change : changes.all()) {
        make(change);
        if (!apply_json_) report(change);
      }
    }
    if (apply_json_) {
      if (auto printed = print_result(json_text(changes.json())); !printed) return printed;
    } else if (dry_run_) {
      if (auto printed = print_result(changes.text()); !printed) return printed;
    }
    return changes.conclude();
  }

  void make(TabChange& change) {
    if (change.map) {
      auto device = map_words(change.words);
      if (device) {
        change.device = std::move(*device);
      } else {
        change.failure = std::move(device.error());
      }
      return;
    }
    const auto result =
        program_.ask(control::kUnmapVerb, control::to_json(control::UnmapArgs{change.device}));
    if (!result) change.failure = result.error();
  }

  static void report(const TabChange& change) {
    if (change.failure) {
      std::fputs(failure_text("rnbd-client", "apply " + change.name, *change.failure).c_str(),
                 stderr);
    } else {
      // What cannot be printed is told by the exit code all the same.
      static_cast<void>(print(change.text()));
    }
  }

  Ended unmap() {
    if (!tab_name_.empty()) {
      const auto line = find_line();
      if (!line) return std::unexpected(line.error());
      if (line->device.empty()) {
        return std::unexpected(control::to_failure({ENOENT, tab_name_ + " is not mapped"}));
      }
      unmap_.device = line->device;
    }
    if (unmap_.device.empty()) {
      return usage_failure("which device?", kWhichDevice);
    }
    program_.set_progress([] { return "what was written goes to the server's disk"; });
    const auto result = program_.ask(control::kUnmapVerb, control::to_json(unmap_));
    if (!result) return std::unexpected(result.error());
    return 0;
  }

  Ended resize() {
    if (resize_device_.empty()) return usage_failure("which device?", kWhichDevice);
    const auto result = program_.ask(control::kResizeVerb, control::resize_args(resize_device_));
    if (!result) return std::unexpected(result.error());
    const auto size = control::read_resize_result(*result);
    if (!size) return std::unexpected(control::to_failure(size.error()));
    return print_result(fmt::format("{}\n", *size));
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
    auto options = client_daemon_options(arguments_, program_.control());
    if (!options) return std::unexpected(options.error());
    options->supervise = supervise_;
    options->arguments = without_supervise(argv_);
    return run_daemon_(*options);
  }

  const RunDaemon& run_daemon_;
  Program program_;
  SessionCommands session_commands_;
  std::vector<std::string> words_;
  control::UnmapArgs unmap_;
  std::string object_;
  bool view_json_ = false;
  control::Json list_;
  control::Json paths_;
  std::string tab_name_;
  std::string tab_file_ = client::kRnbdtabFile;
  bool dry_run_ = false;
  bool prune_ = false;
  bool apply_json_ = false;
  std::string resize_device_;
  std::vector<std::string> path_words_;
  control::PathArgs path_;
  std::string backend_file_;
  ClientDaemonArguments arguments_;
  bool supervise_ = false;
  std::vector<std::string> argv_;
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
