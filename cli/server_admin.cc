// SPDX-License-Identifier: Apache-2.0
#include "cli/server_admin.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "cli/list.h"
#include "cli/output.h"
#include "cli/views.h"
#include "common/control/verbs.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

constexpr std::chrono::milliseconds kLookAgain{250};
constexpr double kLongestPatience = 7 * 24 * 3600.0;
constexpr const char* kExportHint = "see rnbd-server export --help";
constexpr std::array<std::string_view, 3> kExportWords = {"list", "add", "remove"};
constexpr std::array<std::string_view, 2> kExportKeys = {"path", "access"};

Status read_export_word(std::string_view word, control::ExportArgs& args) {
  const auto equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  if (equals == std::string_view::npos ||
      std::ranges::find(kExportKeys, key) == kExportKeys.end()) {
    return fail(EINVAL, fmt::format("unknown word '{}'{}", word, did_you_mean(key, kExportKeys)));
  }
  (key == "path" ? args.path : args.access) = word.substr(equals + 1);
  return {};
}

std::string left_text(const control::DrainResult& left) {
  const auto count = [](std::uint64_t number, const char* what) {
    return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
  };
  std::string text = count(left.devices, "device") + " still open";
  if (left.returning > 0) text += fmt::format(", {} lost", count(left.returning, "session"));
  return text;
}

}  // namespace

void ServerAdmin::add_verbs() {
  add_show();
  add_export();
  add_drain();
}

void ServerAdmin::add_show() {
  CLI::App& verb =
      program_.add_verb("show", "Show all that is known of a device that is open, or of a session",
                        [this] { return show(); });
  verb.add_option("object", object_,
                  "The disk, SESSION/DEVICE, the client's name of a device, or a session")
      ->type_name("OBJECT");
  program_.add_json_flag(verb);
}

Ended ServerAdmin::show() {
  if (object_.empty()) return usage_failure("show what?", "rnbd-server list shows what there is");
  const auto list =
      program_.ask_checked(control::kListVerb, control::Json::object(), control::check_list_result);
  if (!list) return std::unexpected(list.error());
  const auto sessions = program_.ask_checked(control::kSessionsVerb, control::Json::object(),
                                             control::check_sessions_result);
  if (!sessions) return std::unexpected(sessions.error());
  const auto found = find_server_object(*list, *sessions, object_);
  if (!found) return std::unexpected(control::to_failure(found.error()));
  return program_.print_answer(
      *found, [](const control::Json& object, const TableStyle&) { return show_text(object); });
}

void ServerAdmin::add_export() {
  CLI::App& verb =
      program_.add_verb(control::kExportVerb, "List and change what is exported by name",
                        [this] { return change_exports(); });
  verb.add_option("words", export_words_, "What to do, see below")->type_name("list|add|remove");
  verb.add_flag("--temporary", export_.temporary, "Of add: forget it when the daemon ends");
  verb.add_flag("--force", export_.force, "Of remove: close it for those who have it open");
  program_.add_table_flags(verb);
  verb.footer(
      "rnbd-server export list\n"
      "rnbd-server export add NAME path=PATH [access=rw|ro]\n"
      "rnbd-server export remove NAME\n"
      "\n"
      "Clients say NAME as device_path; names are looked up before dev_search_path. What is added\n"
      "is remembered in state_dir. What the configuration exports is removed there.");
}

Ended ServerAdmin::change_exports() {
  if (export_words_.empty()) return usage_failure("what to do with which export?", kExportHint);
  export_.action = export_words_.front();
  if (std::ranges::find(kExportWords, export_.action) == kExportWords.end()) {
    return usage_failure(fmt::format("unknown word '{}'{}", export_.action,
                                     did_you_mean(export_.action, kExportWords)),
                         kExportHint);
  }
  if (export_.action == "list") return list_exports();
  if (export_words_.size() < 2) {
    return usage_failure(fmt::format("export {} needs a name", export_.action), kExportHint);
  }
  return ask_to_change();
}

Ended ServerAdmin::list_exports() {
  if (export_words_.size() > 1) return usage_failure("export list takes no words", kExportHint);
  return program_.print_answer(program_.ask_checked(control::kExportsVerb, control::Json::object(),
                                                    control::check_exports_result),
                               exports_table);
}

Ended ServerAdmin::ask_to_change() {
  const bool add = export_.action == "add";
  export_.name = export_words_[1];
  for (std::size_t i = 2; i < export_words_.size(); ++i) {
    if (!add) return usage_failure("export remove needs one name", kExportHint);
    if (Status read = read_export_word(export_words_[i], export_); !read) {
      return usage_failure(read.error().message, kExportHint);
    }
  }
  if (add && export_.path.empty()) return usage_failure("path= is missing", kExportHint);
  const auto result = program_.ask(control::kExportVerb, control::to_json(export_));
  if (!result) return std::unexpected(result.error());
  return 0;
}

void ServerAdmin::add_drain() {
  CLI::App& verb = program_.add_verb(
      control::kDrainVerb,
      "Take no new sessions, and open nothing new, of all or of one; returns when nothing is open "
      "any more. Until the daemon ends, or --off",
      [this] { return drain(); });
  drain_session_ =
      verb.add_option("session", drain_.session, "Only this one")->type_name("SESSION");
  verb.add_flag("--off", drain_.off, "Take what comes again");
  verb.add_option("--timeout", patience_, "How long to wait; it is drained on [no end]")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, kLongestPatience));
  verb.add_flag("--json", drain_json_, "Print JSON; errors too, as {\"error\":{…}}");
}

std::expected<control::DrainResult, control::Failure> ServerAdmin::ask_to_drain() {
  const auto result = program_.ask(control::kDrainVerb, control::to_json(drain_));
  if (!result) return std::unexpected(result.error());
  const auto left = control::read_drain_result(*result);
  if (!left) return std::unexpected(control::to_failure(left.error()));
  return *left;
}

Ended ServerAdmin::drain() {
  if (drain_session_->count() > 0 && drain_.session.empty()) return usage_failure("which session?");
  const auto left = ask_to_drain();
  if (!left) return std::unexpected(left.error());
  if (!drain_.off) {
    if (auto drained = wait_until_drained(*left); !drained) return drained;
  }
  if (!drain_json_) return 0;
  return print_result(json_text(control::to_json(drain_.off ? *left : control::DrainResult{})));
}

Ended ServerAdmin::wait_until_drained(control::DrainResult left) {
  const auto begun = std::chrono::steady_clock::now();
  const std::chrono::duration<double> patience(patience_);
  std::string told;
  while (left.devices > 0 || left.returning > 0) {
    const std::string text = left_text(left);
    if (text != told) std::fputs(fmt::format("rnbd-server: drain: {}\n", text).c_str(), stderr);
    told = text;
    if (patience_ > 0 && std::chrono::steady_clock::now() - begun >= patience) {
      return std::unexpected(control::to_failure(
          {ETIMEDOUT, fmt::format("{} after {} s; it is drained on\n"
                                  "rnbd-server drain --off ends that, session close closes them",
                                  text, patience_)}));
    }
    std::this_thread::sleep_for(kLookAgain);
    drain_.look = true;
    const auto now = ask_to_drain();
    if (!now) return std::unexpected(now.error());
    left = *now;
  }
  return 0;
}

}  // namespace rnbd::cli
