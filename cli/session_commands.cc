// SPDX-License-Identifier: Apache-2.0
#include "cli/session_commands.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "cli/fields.h"
#include "cli/list.h"
#include "cli/output.h"
#include "cli/tab.h"
#include "cli/views.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

// An attempt to connect ends in the daemon, after some seconds.
constexpr double kRecoverSeconds = 60;
constexpr double kDiscoverSeconds = 60;

constexpr std::array<std::string_view, 2> kActions = {"list", "set"};

constexpr const char* kSessionWords =
    "rnbd-client session list\n"
    "rnbd-client session set SESSION|all [on_no_path=queue|fail-after:N] [mpath_policy=POLICY]\n"
    "                                    [max_reconnect_attempts=N]\n"
    "\n"
    "on_no_path is of all devices that the session has now. max_reconnect_attempts counts from a\n"
    "path's next loss on: -1 means no end. What was mapped with persist=yes comes back with what\n"
    "is set, unless --temporary is given.";

}  // namespace

SessionCommands::SessionCommands(Program& program) : program_(program) {
  add_session();
  CLI::App& remap = program_.add_verb(
      control::kRemapVerb,
      "Ask the server again for a device that it would not open; the daemon does so every 2 s",
      [this] { return this->remap(); });
  remap.add_option("device", device_, "Node to open again")->type_name("/dev/nbdN");
  add_recover();
  CLI::App& discover =
      program_.add_verb(control::kDiscoverVerb,
                        "Look whether a server answers, and what it says of itself; RNBD has no "
                        "way to ask what it exports",
                        [this] { return this->discover(); });
  discover.add_option("words", address_words_, "server=ip:ADDR, or path=[SRC@]DST…; dest_port=N")
      ->type_name("KEY=VALUE");
  program_.add_table_flags(discover);
  program_.add_timeout(discover, kDiscoverSeconds);
}

void SessionCommands::add_session() {
  CLI::App& verb = program_.add_verb("session", "List sessions, and change what they do",
                                     [this] { return session(); });
  verb.add_option("words", session_words_, "What to do, see below")->type_name("WORD");
  verb.add_flag("--temporary", temporary_,
                "Of set: what comes back after a reboot is as it was before");
  program_.add_table_flags(verb);
  verb.footer(kSessionWords);
}

void SessionCommands::add_recover() {
  CLI::App& verb = program_.add_verb(
      "recover",
      "Reconnect the paths that are not connected and ask again for the devices that are closed, "
      "of a device, session or path, or of everything; prints what it does",
      [this] { return recover(); });
  verb.add_option("object", object_, "/dev/nbdN, SESSION/DEVICE, SESSION or path; all if left out")
      ->type_name("OBJECT");
  verb.add_flag("-n,--dry-run", dry_run_, "Only print what would be done");
  verb.add_flag("--add-missing", add_missing_,
                "Also add paths that rnbdtab names, and sessions lack");
  verb.add_option("--tab-file", tab_file_, fmt::format("The tab [{}]", client::kRnbdtabFile))
      ->type_name("FILE");
  program_.add_timeout(verb, kRecoverSeconds);
}

Ended SessionCommands::session() {
  constexpr const char* kHint = "see rnbd-client session --help";
  if (session_words_.empty()) return usage_failure("what to do with which session?", kHint);
  const std::string action = session_words_.front();
  if (action == "list" && session_words_.size() == 1) return list_sessions();
  if (std::ranges::find(kActions, action) == kActions.end()) {
    return usage_failure(fmt::format("unknown word '{}'{}", action, did_you_mean(action, kActions)),
                         kHint);
  }
  if (action == "list") return usage_failure("session list takes no more words", kHint);
  if (session_words_.size() < 3) return usage_failure("set what of which session?", kHint);
  const control::SetArgs args{
      session_words_[1], {session_words_.begin() + 2, session_words_.end()}, temporary_};
  const auto result = program_.ask(control::kSetVerb, control::to_json(args));
  if (!result) return std::unexpected(result.error());
  return 0;
}

Ended SessionCommands::list_sessions() {
  const auto all = program_.ask_everything();
  if (!all) return std::unexpected(all.error());
  return program_.print_answer(client_sessions(all->list, all->paths), client_sessions_table);
}

Ended SessionCommands::remap() {
  if (device_.empty()) {
    return usage_failure("which device?", "rnbd-client list shows what is mapped");
  }
  const auto result = program_.ask(control::kRemapVerb, control::remap_args(device_));
  if (!result) return std::unexpected(result.error());
  return 0;
}

Ended SessionCommands::discover() {
  if (address_words_.empty()) return usage_failure("where? server=ip:10.0.0.1, for example");
  const auto answer = program_.ask_checked(
      control::kDiscoverVerb, control::map_args(address_words_), control::check_servers_result);
  if (auto printed = program_.print_answer(answer, servers_table); !printed) return printed;
  const control::Json& servers = answer->at("servers");
  const bool any = std::ranges::any_of(
      servers, [](const control::Json& server) { return text_of(server, "state") == "reachable"; });
  return any ? 0 : std::to_underlying(control::ExitCode::Unreachable);
}

/// Paths first: a device whose server is away is opened again with them.
std::expected<std::vector<SessionCommands::Step>, control::Failure> SessionCommands::steps() {
  const auto all = program_.ask_everything();
  if (!all) return std::unexpected(all.error());
  const auto parts = parts_of(all->list, all->paths, object_);
  if (!parts) return std::unexpected(control::to_failure(parts.error()));

  std::vector<Step> steps;
  for (const control::Json& path : parts->at("paths")) {
    if (text_of(path, "state") == "connected") continue;
    std::string session = text_of(path, "session");
    std::string name = text_of(path, "path");
    steps.push_back({control::kPathVerb,
                     control::to_json(control::PathArgs{"reconnect", session, name}),
                     fmt::format("path {} {}", session, name)});
  }
  if (add_missing_) {
    auto missing = missing_paths(all->paths);
    if (!missing) return std::unexpected(missing.error());
    std::ranges::move(*missing, std::back_inserter(steps));
  }
  for (const control::Json& device : parts->at("devices")) {
    if (text_of(device, "state") != "closed") continue;
    const std::string node = text_of(device, "device");
    steps.push_back({control::kRemapVerb, control::remap_args(node), "device " + node});
  }
  return steps;
}

std::expected<std::vector<SessionCommands::Step>, control::Failure> SessionCommands::missing_paths(
    const control::Json& paths) {
  const auto entries = load_tab(tab_file_);
  if (!entries) return std::unexpected(entries.error());
  std::vector<Step> steps;
  for (const client::TabEntry& entry : *entries) {
    std::vector<std::string> known;
    for (const control::Json& path : paths.at("paths")) {
      if (text_of(path, "session") == entry.session_name) known.push_back(text_of(path, "path"));
    }
    if (known.empty()) continue;  // a session that there is not is for `apply`
    for (const std::string& path : entry.paths) {
      const std::string text = fmt::format("new path {} {}", entry.session_name, path);
      if (std::ranges::find(known, path) != known.end()) continue;
      if (std::ranges::find(steps, text, &Step::text) != steps.end()) continue;
      steps.push_back(
          {control::kPathVerb,
           control::to_json(control::PathArgs{"add", entry.session_name, path, entry.port}), text});
    }
  }
  return steps;
}

Ended SessionCommands::recover() {
  const auto steps = this->steps();
  if (!steps) return std::unexpected(steps.error());
  if (!dry_run_) return take(*steps);
  std::string text;
  for (const Step& step : *steps) text += step.text + '\n';
  return print_result(text);
}

Ended SessionCommands::take(const std::vector<Step>& steps) {
  std::size_t failed = 0;
  std::optional<control::Failure> failure;
  for (const Step& step : steps) {
    const auto result = program_.ask(step.verb, step.args);
    if (result) {
      if (auto printed = print_result(step.text + '\n'); !printed) return printed;
      continue;
    }
    ++failed;
    failure = result.error();
    if (steps.size() == 1) break;  // it is told when the command ends
    std::fputs(failure_text("rnbd-client", "recover: " + step.text, *failure).c_str(), stderr);
  }
  if (!failure) return 0;
  if (steps.size() == 1) return std::unexpected(*failure);
  return std::unexpected(steps_failure(failed, steps.size()));
}

}  // namespace rnbd::cli
