// SPDX-License-Identifier: Apache-2.0
#include "cli/program.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/events.h"
#include "cli/fields.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/stats.h"
#include "cli/views.h"
#include "common/control/verbs.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

constexpr double kDefaultTimeout = 10;
constexpr double kLongestTimeout = 24 * 3600;
constexpr std::chrono::milliseconds kAskAgain{100};
/// For so long who follows events waits for a daemon that went away.
constexpr std::chrono::seconds kDaemonReturns{30};

/// All exit codes, in lines that fit a terminal.
std::string exit_codes_text() {
  constexpr std::size_t kWidth = 80;
  std::string text = "Exit codes:";
  std::size_t line = text.size();
  for (const ExitCodeReference& exit : exit_codes()) {
    const bool last = &exit == &exit_codes().back();
    const std::string next = fmt::format("{} {}{}", exit.code, exit.meaning, last ? "" : ",");
    const bool fits = line + 1 + next.size() <= kWidth;
    text += (fits ? ' ' : '\n') + next;
    line = fits ? line + 1 + next.size() : next.size();
  }
  return text;
}

/// CLI11's messages may have several lines; ours have one.
std::string one_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

bool asks_for_json(std::span<const char* const> arguments) {
  return std::ranges::any_of(arguments, [](std::string_view a) { return a == "--json"; });
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

control::Json no_paths() { return {{"paths", control::Json::array()}}; }

std::string suggestion(const std::string& word, const std::vector<std::string>& names) {
  const std::vector<std::string_view> views(names.begin(), names.end());
  return did_you_mean(word, views);
}

}  // namespace

std::unexpected<control::Failure> usage_failure(std::string message, std::string hint) {
  return std::unexpected(
      control::Failure{{EINVAL, std::move(message)}, control::ExitCode::Usage, std::move(hint)});
}

Ended print_result(const std::string& text) {
  if (auto printed = print(text); !printed) {
    return std::unexpected(control::to_failure(printed.error()));
  }
  return 0;
}

Program::Program(std::string name, const std::string& description, std::string default_socket,
                 std::string config_file)
    : name_(std::move(name)),
      default_socket_(std::move(default_socket)),
      config_file_(std::move(config_file)),
      app_(description, name_) {
  // What CLI11 does not know is left to check_all_understood(), which can name the nearest.
  app_.require_subcommand(0, 1)->allow_extras()->fallthrough();
  app_.set_version_flag("--version", fmt::format("{} {}", name_, RNBD_VERSION));
  app_.add_option("--control", control_,
                  fmt::format("The daemon's control socket; commands look for it in {} too [{}]",
                              config_file_, default_socket_))
      ->type_name("PATH");
  app_.footer(exit_codes_text());
}

CLI::App& Program::add_verb(const std::string& verb, const std::string& help,
                            std::function<Ended()> action) {
  CLI::App& added = *app_.add_subcommand(verb, help);
  actions_[&added] = std::move(action);
  return added;
}

void Program::add_list(ListKind kind) {
  CLI::App& verb = add_verb(control::kListVerb,
                            kind == ListKind::Client ? "List the mapped devices"
                                                     : "List the devices that clients have open",
                            [this, kind] { return list(kind); });
  add_table_flags(verb);
}

void Program::add_config(ConfigVerb config) {
  config_ = std::move(config);
  CLI::App& verb = add_verb("config",
                            "validate says where and why a file, or a drop-in beside it, is wrong; "
                            "show prints what they say, with the defaults",
                            [this] { return this->config(); });
  verb.add_option("words", config_words_, "And a file [" + config_.usual + "]")
      ->type_name("validate|show");
  add_json_flag(verb);
}

Ended Program::config() {
  const bool show = !config_words_.empty() && config_words_.front() == "show";
  const bool known = show || (!config_words_.empty() && config_words_.front() == "validate");
  if (!known || config_words_.size() > 2) {
    return usage_failure("config validate [FILE] and config show [FILE] is all there is");
  }
  std::optional<std::string> file;
  if (config_words_.size() == 2) file = config_words_.back();
  if (show) {
    const auto settings = config_.show(file);
    if (!settings) return std::unexpected(settings.error());
    return print_result(json_ ? json_text(settings_json(*settings)) : settings_text(*settings));
  }
  const auto fine = config_.validate(file);
  if (!fine) return std::unexpected(fine.error());
  if (json_) {
    return print_result(json_text({{"schema_version", control::kSchemaVersion}, {"valid", *fine}}));
  }
  std::string text;
  for (const std::string& one : *fine) text += one + " is fine\n";
  return print_result(text);
}

void Program::add_stats(ListKind kind) {
  stats_kind_ = kind;
  const bool client = kind == ListKind::Client;
  CLI::App& stats = add_verb(control::kStatsVerb,
                             "Count what has been done with each device, and how long it took",
                             [this] { return this->stats(); });
  stats
      .add_option("object", stats_object_,
                  client ? "/dev/nbdN, SESSION/DEVICE, the server's name of a device or SESSION; "
                           "with --reset a path too; all if left out"
                         : "The disk, SESSION/DEVICE, the client's name of a device or SESSION; "
                           "all if left out")
      ->type_name("OBJECT");
  stats.add_flag("--reset", reset_,
                 "Show what comes from now on, and print nothing; JSON keeps the whole counts "
                 "too, and metrics only them");
  add_table_flags(stats);
  CLI::App& top = add_verb("top", "Show what is being done, again and again, busiest device first",
                           [this] { return this->top(); });
  top.add_option("--interval", interval_, "Seconds between two looks [1]")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0));
  top.add_option("-n,--count", rounds_, "How often; 0: until it is ended [0]")->type_name("N");
  add_style_flags(top);
}

void Program::add_events() {
  CLI::App& verb =
      add_verb(control::kEventsVerb, "Show what there is, and then what happens, until it is ended",
               [this] { return events(); });
  verb.add_flag("--json", json_, "Print JSON, an object a line; errors too, as {\"error\":{…}}");
  verb.add_flag("--now", now_, "Only what there is");
  verb.add_option("-n,--count", rounds_, "End after so many events; 0: never [0]")->type_name("N");
}

void Program::add_doctor(std::function<std::vector<Finding>()> examine) {
  CLI::App& verb =
      add_verb("doctor", "Look for what keeps this host from working, and say what to do about it",
               [this, examine = std::move(examine)] { return doctor(examine); });
  add_json_flag(verb);
}

Ended Program::doctor(const std::function<std::vector<Finding>()>& examine) {
  std::vector<Finding> findings = examine();
  const auto list =
      ask_checked(control::kListVerb, control::Json::object(), control::check_list_result);
  if (list) {
    findings.push_back({"daemon",
                        Verdict::Ok,
                        fmt::format("it answers, and has {} devices", list->at("devices").size()),
                        {}});
  } else {
    findings.push_back({"daemon", Verdict::Failed, list.error().error.message, list.error().hint});
  }
  const std::string text = json_ ? json_text(findings_json(findings)) : findings_text(findings);
  if (auto printed = print_result(text); !printed) return printed;
  return exit_of(findings);
}

void Program::add_json_flag(CLI::App& verb) {
  verb.add_flag("--json", json_, "Print JSON; errors too, as {\"error\":{…}}");
}

void Program::add_table_flags(CLI::App& verb) {
  add_json_flag(verb);
  add_style_flags(verb);
}

void Program::add_style_flags(CLI::App& verb) {
  verb.add_flag("--noheaders", no_headers_, "Print no line with the columns' titles");
  verb.add_option("-o,--output", columns_,
                  "Columns to show: device,state; or beside the usual ones, and without some of "
                  "them: +last_error,-io")
      ->type_name("COLUMN,…");
}

/// Colours only where somebody sees them and has not refused them (no-color.org).
TableStyle Program::style() const {
  const char* const refused = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  const bool colours =
      ::isatty(STDOUT_FILENO) != 0 && !dumb && (refused == nullptr || *refused == '\0');
  return {.headers = !no_headers_, .columns = columns_, .colours = colours};
}

void Program::add_timeout(CLI::App& verb, double fallback) {
  timeouts_[&verb] = fallback;
  verb.add_option("--timeout", timeout_seconds_,
                  fmt::format("How long to wait for the daemon [{} s]", fallback))
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, kLongestTimeout));
}

control::Outcome Program::ask(const std::string& verb, control::Json args) {
  using std::chrono::milliseconds;
  const std::chrono::duration<double> timeout(timeout_seconds_);
  const auto end = std::chrono::steady_clock::now() + std::chrono::ceil<milliseconds>(timeout);
  const control::Request request{verb, std::move(args)};
  bool replaced = false;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now());
    control::Outcome outcome = ask_once(request, std::max(left, milliseconds(1)));
    if (outcome) return outcome;
    // One that is being replaced has done nothing of it; the next one will, once it listens.
    const bool away = outcome.error().exit == control::ExitCode::NoDaemon;
    replaced |= outcome.error().error.code == control::kBeingReplaced;
    if (!replaced || left <= kAskAgain) return outcome;
    if (!away && outcome.error().error.code != control::kBeingReplaced) return outcome;
    std::this_thread::sleep_for(kAskAgain);
  }
}

std::expected<control::Client, control::Failure> Program::connect() {
  if (control_) return control::Client::connect({name_, *control_, default_socket_});
  if (!configured_) configured_ = configured_control(config_file_);
  const std::string usual = configured_->path.value_or(default_socket_);
  auto client = control::Client::connect(
      {name_, usual, usual, configured_->path ? config_file_ : std::string()});
  if (!client && client.error().exit == control::ExitCode::NoDaemon &&
      !configured_->trouble.empty()) {
    client.error().hint = fmt::format("another socket may be configured, but {}; or {}",
                                      configured_->trouble, client.error().hint);
  }
  return client;
}

control::Outcome Program::ask_once(const control::Request& request,
                                   std::chrono::milliseconds timeout) {
  auto client = connect();
  if (!client) return std::unexpected(std::move(client.error()));
  Progress progress(name_, request.verb, progress_);
  return client->call(request, timeout, [&progress] { progress.show(); });
}

control::Outcome Program::peek(const std::string& verb, const control::Json& args) {
  auto client = connect();
  if (!client) return std::unexpected(std::move(client.error()));
  return client->call({verb, args}, std::chrono::seconds(1));
}

control::Outcome Program::ask_checked(const std::string& verb, control::Json args, Check check) {
  auto result = ask(verb, std::move(args));
  if (!result) return result;
  if (auto checked = check(*result); !checked) {
    return std::unexpected(control::to_failure(checked.error()));
  }
  return result;
}

std::expected<Program::Everything, control::Failure> Program::ask_everything() {
  auto list = ask_checked(control::kListVerb, control::Json::object(), control::check_list_result);
  if (!list) return std::unexpected(std::move(list.error()));
  auto paths =
      ask_checked(control::kPathsVerb, control::Json::object(), control::check_paths_result);
  if (!paths) return std::unexpected(std::move(paths.error()));
  return Everything{std::move(*list), std::move(*paths)};
}

Ended Program::print_answer(const control::Outcome& answer, const MakeTable& table) const {
  if (!answer) return std::unexpected(answer.error());
  if (json_) return print_result(json_text(*answer));
  const auto text = table(*answer, style());
  if (!text) return usage_failure(text.error().message);
  return print_result(*text);
}

control::Outcome Program::ask_stats() {
  return ask_checked(control::kStatsVerb, control::Json::object(), control::check_list_result);
}

Ended Program::stats() {
  if (reset_) return reset_stats();
  auto answer = ask_stats();
  if (answer && !stats_object_.empty()) {
    const auto parts = parts_of(*answer, no_paths(), stats_object_);
    if (!parts) return std::unexpected(control::to_failure(parts.error()));
    answer = control::list_result(parts->at("devices"));
  }
  return print_answer(answer, stats_table);
}

Ended Program::reset_stats() {
  const auto which = what_to_reset();
  if (!which) return std::unexpected(which.error());
  const auto result = ask(control::kResetVerb, control::to_json(*which));
  if (!result) return std::unexpected(result.error());
  return 0;
}

std::expected<control::ResetArgs, control::Failure> Program::what_to_reset() {
  if (stats_object_.empty()) return control::ResetArgs{.everything = true};
  const auto counted = ask_stats();
  if (!counted) return std::unexpected(counted.error());
  control::Outcome paths = no_paths();
  if (stats_kind_ == ListKind::Client) {
    paths = ask_checked(control::kPathsVerb, control::Json::object(), control::check_paths_result);
  }
  if (!paths) return std::unexpected(paths.error());
  const auto parts = parts_of(*counted, *paths, stats_object_);
  if (!parts) return std::unexpected(control::to_failure(parts.error()));
  control::ResetArgs which;
  for (const control::Json& one : parts->at("devices")) {
    which.devices.push_back({text_of(one, "session"), text_of(one, "mapping_path")});
  }
  for (const control::Json& one : parts->at("paths")) {
    which.paths.push_back({text_of(one, "session"), text_of(one, "path")});
  }
  return which;
}

Ended Program::top() {
  constexpr const char* kClearScreen = "\x1b[H\x1b[J";
  using Seconds = std::chrono::duration<double>;
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  auto before = ask_stats();
  auto begun = std::chrono::steady_clock::now();
  for (std::uint64_t round = 0; before && (rounds_ == 0 || round < rounds_); ++round) {
    std::this_thread::sleep_for(Seconds(interval_));
    auto now = ask_stats();
    if (!now) return std::unexpected(now.error());
    const auto end = std::chrono::steady_clock::now();
    const auto table = top_table(*before, *now, Seconds(end - begun).count(), style());
    if (!table) return usage_failure(table.error().message);
    if (auto printed = print_result((terminal ? kClearScreen : "") + *table); !printed) {
      return printed;
    }
    before = std::move(now);
    begun = end;
  }
  if (!before) return std::unexpected(before.error());
  return 0;
}

Ended Program::events() {
  using std::chrono::steady_clock;
  control::EventsSeen seen;
  auto lost = steady_clock::time_point();
  for (std::uint64_t told = 0;;) {
    const auto answer =
        ask_checked(control::kEventsVerb, control::to_json(seen), control::check_events_result);
    if (!answer) {
      // A daemon that is started anew tells what there is then.
      const bool first = seen.daemon.empty();
      if (first || answer.error().exit != control::ExitCode::NoDaemon) {
        return std::unexpected(answer.error());
      }
      if (lost == steady_clock::time_point()) lost = steady_clock::now();
      if (steady_clock::now() - lost > kDaemonReturns) return std::unexpected(answer.error());
      std::this_thread::sleep_for(kAskAgain);
      continue;
    }
    lost = {};
    seen = {.daemon = answer->at("daemon").get<std::string>(),
            .after = answer->at("next").get<std::uint64_t>()};
    if (auto printed = print_events(*answer, told); !printed) return printed;
    if (now_ || (rounds_ != 0 && told == rounds_)) return 0;
  }
}

/// The snapshot, if there is one, and as many events as are asked for; counts these.
Ended Program::print_events(const control::Json& answer, std::uint64_t& told) {
  if (const auto snapshot = answer.find("snapshot"); snapshot != answer.end()) {
    const std::string text = json_ ? snapshot_line(*snapshot) : snapshot_text(*snapshot);
    if (auto printed = print_result(text); !printed) return printed;
  }
  for (const control::Json& event : answer.at("events")) {
    if (now_ || (rounds_ != 0 && told == rounds_)) break;
    const std::string text = json_ ? event_line(event) : event_text(event);
    if (auto printed = print_result(text); !printed) return printed;
    ++told;
  }
  return 0;
}

Ended Program::list(ListKind kind) {
  return print_answer(
      ask_checked(control::kListVerb, control::Json::object(), control::check_list_result),
      [kind](const control::Json& result, const TableStyle& style) {
        return list_table(result, kind, style);
      });
}

int Program::run(int argc, const char* const* argv) {
  std::string verb;
  const Ended ended = run_verb(argc, argv, verb);
  if (ended) return *ended;
  const control::Failure& failure = ended.error();
  if (asks_for_json({argv, static_cast<std::size_t>(argc)})) {
    // If stdout is gone, stderr and the exit code still tell.
    static_cast<void>(print(failure_json(failure)));
  }
  std::fputs(failure_text(name_, verb, failure).c_str(), stderr);
  return std::to_underlying(failure.exit);
}

Ended Program::run_verb(int argc, const char* const* argv, std::string& verb) {
  std::optional<control::Failure> mistake;
  try {
    app_.parse(argc, argv);
  } catch (const CLI::Success& asked_for_help) {
    return app_.exit(asked_for_help);
  } catch (const CLI::ParseError& error) {
    mistake = usage_failure(one_line(error.what())).error();
  }
  const auto chosen = app_.get_subcommands();
  const CLI::App* parsed = chosen.empty() ? nullptr : chosen.front();
  if (parsed != nullptr) verb = parsed->get_name();
  if (mistake) return std::unexpected(*mistake);
  if (auto understood = check_all_understood(parsed); !understood) {
    return std::unexpected(understood.error());
  }
  if (parsed == nullptr) return usage_failure("which verb?", "see " + name_ + " --help");
  if (timeout_seconds_ == 0) {
    const auto found = timeouts_.find(parsed);
    timeout_seconds_ = found == timeouts_.end() ? kDefaultTimeout : found->second;
  }
  return actions_.at(parsed)();
}

std::expected<void, control::Failure> Program::check_all_understood(const CLI::App* verb) const {
  const std::vector<std::string> unknown = app_.remaining(true);
  if (unknown.empty()) return {};
  const std::string& word = unknown.front();
  if (word.starts_with('-')) {
    std::vector<std::string> names = option_names(app_);
    if (verb != nullptr) std::ranges::copy(option_names(*verb), std::back_inserter(names));
    return usage_failure(fmt::format("unknown option '{}'{}", word, suggestion(word, names)));
  }
  if (verb != nullptr) return usage_failure(fmt::format("unexpected word '{}'", word));
  std::vector<std::string> verbs;
  verbs.reserve(actions_.size());
  for (const auto& [app, action] : actions_) verbs.push_back(app->get_name());
  return usage_failure(fmt::format("unknown verb '{}'{}", word, suggestion(word, verbs)),
                       "see " + name_ + " --help");
}

}  // namespace rnbd::cli
