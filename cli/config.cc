// SPDX-License-Identifier: Apache-2.0
#include "cli/config.h"

#include <cerrno>
#include <cstdio>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/output.h"
#include "cli/program.h"
#include "common/control/admin_verbs.h"
#include "common/control/verbs.h"

namespace rnbd::cli {
namespace {

constexpr const char* kDefault = "default";
constexpr const char* kRefusedHint = "all else is in force; reload again when it is unmapped there";

const std::string& origin_of(const ConfigSetting& setting) {
  static const std::string otherwise = kDefault;
  return setting.origin.empty() ? otherwise : setting.origin;
}

/// A string of JSON is one of TOML too.
std::string line_of(const std::string& key, const control::Json& value) {
  return fmt::format("{} = {}", key, value.dump());
}

std::string tables_text(const ConfigSetting& setting) {
  std::string text;
  for (const control::Json& table : setting.value) {
    text += fmt::format("\n[[{}]]\n", setting.key);
    for (const auto& [key, value] : table.items()) text += line_of(key, value) + '\n';
  }
  return text;
}

}  // namespace

ConfiguredControl configured_control(const std::string& file) {
  ConfiguredControl found;
  auto files = config_files(file);
  if (!files) {
    found.trouble = files.error().message;
    files = std::vector{file};
  }
  for (const std::string& one : *files) {
    const auto table = read_config(one);
    if (!table && table.error().code != ENOENT) found.trouble = table.error().message;
    if (!table) continue;
    for (const ConfigItem& item : *table) {
      if (item.key != "control") continue;
      const auto path = text_of(item);
      if (path && !path->empty()) found.path = *path;
      if (!path) found.trouble = path.error().message;
    }
  }
  return found;
}

std::unexpected<control::Failure> config_failure(Error error) {
  return std::unexpected(control::Failure{std::move(error), control::ExitCode::ConfigInvalid, {}});
}

std::string settings_text(const std::vector<ConfigSetting>& settings) {
  std::string text;
  std::string tables;
  for (const ConfigSetting& setting : settings) {
    if (setting.value.is_array()) {
      tables += tables_text(setting);
    } else if (setting.value.is_null()) {
      text += fmt::format("# {} is not set\n", setting.key);
    } else {
      text +=
          fmt::format("{:<40}  # {}\n", line_of(setting.key, setting.value), origin_of(setting));
    }
  }
  return text + tables;
}

control::Json settings_json(const std::vector<ConfigSetting>& settings) {
  control::Json list = control::Json::array();
  for (const ConfigSetting& setting : settings) {
    list.push_back(
        {{"key", setting.key}, {"value", setting.value}, {"origin", origin_of(setting)}});
  }
  return {{"schema_version", control::kSchemaVersion}, {"settings", std::move(list)}};
}

std::string reload_text(const control::Json& result) {
  const auto read = control::read_reload_result(result);
  if (!read || (read->changed.empty() && read->needs_restart.empty())) {
    return "nothing has changed\n";
  }
  std::string text;
  if (!read->changed.empty()) {
    text += fmt::format("changed: {}\n", fmt::join(read->changed, ", "));
  }
  if (!read->needs_restart.empty()) {
    text += fmt::format("needs a restart: {}\n", fmt::join(read->needs_restart, ", "));
  }
  return text;
}

namespace {

Ended reload(Program& program) {
  const auto answer = program.ask_checked(control::kReloadVerb, control::Json::object(),
                                          control::check_reload_result);
  auto printed = program.print_answer(
      answer, [](const control::Json& result, const TableStyle&) { return reload_text(result); });
  if (!printed) return printed;
  const auto refused = control::read_reload_result(*answer)->refused;
  for (const control::ReloadResult::Refused& one : refused) {
    const bool last = &one == &refused.back();
    const control::Failure failure{{EBUSY, fmt::format("{}: {}", one.key, one.why)},
                                   control::ExitCode::Partial,
                                   last ? kRefusedHint : ""};
    std::fputs(failure_text(program.name(), control::kReloadVerb, failure).c_str(), stderr);
  }
  return refused.empty() ? 0 : std::to_underlying(control::ExitCode::Partial);
}

}  // namespace

void add_reload(Program& program) {
  CLI::App& verb = program.add_verb(
      control::kReloadVerb,
      "Have the daemon read its configuration again; nothing is disconnected. Says what is in "
      "force now, and what needs a restart",
      [&program] { return reload(program); });
  program.add_json_flag(verb);
}

}  // namespace rnbd::cli
