// SPDX-License-Identifier: Apache-2.0
// What both commands share: the command line with its verbs, asking the daemon, and telling of
// failures. Lives on the main thread, for as long as main runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/config.h"
#include "cli/doctor.h"
#include "cli/list.h"
#include "cli/reference.h"
#include "cli/table.h"
#include "common/control/client.h"
#include "common/control/messages.h"
#include "common/control/stats_reset.h"

namespace rnbd::cli {

/// How a verb ends: with an exit code of its own, or with what to tell.
using Ended = std::expected<int, control::Failure>;

class Program {
 public:
  /// `name` is the program's and its systemd unit's. Without --control its daemon is asked where
  /// `config_file`, the unit's, says, and on `default_socket` if that does not.
  Program(std::string name, const std::string& description, std::string default_socket,
          std::string config_file);

  /// A verb that does `action` once the command line is understood. Add its options to what comes
  /// back; positional arguments go there too and are checked by `action`, not required.
  CLI::App& add_verb(const std::string& verb, const std::string& help,
                     std::function<Ended()> action);

  /// `list [--json] [--noheaders]`.
  void add_list(ListKind kind);

  /// `config validate|show [FILE] [--json]`.
  void add_config(ConfigVerb config);

  /// `stats [OBJECT] [--reset] [--json] [--noheaders]`, `top [--interval SECONDS] [-n COUNT]`.
  void add_stats(ListKind kind);

  /// `events [--json] [--now] [-n COUNT]`.
  void add_events();

  /// `doctor [--json]`: `examine` looks at what this program needs; whether the daemon answers is
  /// found out before it.
  void add_doctor(std::function<std::vector<Finding>()> examine);

  /// Adds --json, --noheaders and --output to a verb that prints a table.
  void add_table_flags(CLI::App& verb);

  /// Adds --json to a verb that prints something else; wants_json() then says whether it was given.
  void add_json_flag(CLI::App& verb);
  [[nodiscard]] bool wants_json() const { return json_; }

  /// Adds --timeout to `verb`, which otherwise waits for `fallback` seconds.
  void add_timeout(CLI::App& verb, double fallback);

  /// Asks the daemon and waits for its answer; if that is being replaced, the next one. Does
  /// nothing else: no output.
  control::Outcome ask(const std::string& verb, control::Json args);

  /// What is said, on a terminal, while an answer is waited for; asked once a second.
  void set_progress(std::function<std::string()> progress) { progress_ = std::move(progress); }

  /// As ask(), but for a second at most, and without progress.
  control::Outcome peek(const std::string& verb, const control::Json& args);

  /// As ask(), and the answer is what `check` wants it to be.
  using Check = Status (*)(const control::Json& result);
  control::Outcome ask_checked(const std::string& verb, control::Json args, Check check);

  /// A client's daemon's answers to "list" and "paths".
  struct Everything {
    control::Json list;
    control::Json paths;
  };
  std::expected<Everything, control::Failure> ask_everything();

  /// Prints an answer as the table flags say: as JSON, or as `table` makes it.
  using MakeTable =
      std::function<Result<std::string>(const control::Json& result, const TableStyle& style)>;
  Ended print_answer(const control::Outcome& answer, const MakeTable& table) const;

  [[nodiscard]] const std::string& name() const { return name_; }

  /// --control, or nothing.
  [[nodiscard]] const std::optional<std::string>& control() const { return control_; }

  [[nodiscard]] ProgramReference reference() const { return reference_of(app_); }

  /// Understands the arguments, does the verb and returns the exit code.
  int run(int argc, const char* const* argv);

 private:
  Ended run_verb(int argc, const char* const* argv, std::string& verb);
  Ended list(ListKind kind);
  Ended config();
  Ended stats();
  Ended reset_stats();
  Ended top();
  Ended events();
  Ended print_events(const control::Json& answer, std::uint64_t& told);
  Ended doctor(const std::function<std::vector<Finding>()>& examine);
  void add_style_flags(CLI::App& verb);
  [[nodiscard]] TableStyle style() const;
  control::Outcome ask_stats();
  std::expected<control::ResetArgs, control::Failure> what_to_reset();
  std::expected<control::Client, control::Failure> connect();
  control::Outcome ask_once(const control::Request& request, std::chrono::milliseconds timeout);
  std::expected<void, control::Failure> check_all_understood(const CLI::App* verb) const;

  std::string name_;
  std::string default_socket_;
  std::string config_file_;
  std::optional<ConfiguredControl> configured_;  ///< once somebody has to know
  CLI::App app_;
  std::map<const CLI::App*, std::function<Ended()>> actions_;
  std::optional<std::string> control_;
  double timeout_seconds_ = 0;  ///< of the verb in hand
  std::map<const CLI::App*, double> timeouts_;
  bool json_ = false;
  bool no_headers_ = false;
  std::string columns_;
  bool now_ = false;
  std::function<std::string()> progress_;
  ConfigVerb config_;
  std::vector<std::string> config_words_;
  ListKind stats_kind_ = ListKind::Client;
  std::string stats_object_;
  bool reset_ = false;
  double interval_ = 1;
  std::uint64_t rounds_ = 0;
};

/// A mistake on the command line: exit code 2.
std::unexpected<control::Failure> usage_failure(std::string message, std::string hint = {});

/// Prints a result; a verb's last step.
Ended print_result(const std::string& text);

}  // namespace rnbd::cli
