// SPDX-License-Identifier: Apache-2.0
// What both commands do with configurations: `config validate`, `config show`, `reload`.
#pragma once

#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config_file.h"
#include "common/control/messages.h"

namespace rnbd::cli {

class Program;

/// Where a program's configuration is, and what it says. Both look at the usual files if none is
/// named.
struct ConfigVerb {
  std::string usual;  ///< those files, for the help
  /// What has been looked at and is right. Errors: exit code 12 with FILE:LINE:COLUMN.
  std::function<std::expected<std::vector<std::string>, control::Failure>(
      const std::optional<std::string>& file)>
      validate;
  /// What a daemon would run with, but for its command line. Errors: as above.
  std::function<std::expected<std::vector<ConfigSetting>, control::Failure>(
      const std::optional<std::string>& file)>
      show;
};

/// On which socket a daemon takes commands that reads these files.
struct ConfiguredControl {
  std::optional<std::string> path;  ///< none: on its usual one
  std::string trouble;              ///< why what is found here may not be all; mostly empty
};

/// `control` of `file` and its drop-ins, whatever else they say. What cannot be read or understood
/// is left out: the daemon may run with what was there before.
ConfiguredControl configured_control(const std::string& file);

/// Exit code 12.
std::unexpected<control::Failure> config_failure(Error error);

/// TOML, with where each setting comes from.
std::string settings_text(const std::vector<ConfigSetting>& settings);

/// {"schema_version":1,"settings":[{"key":…,"value":…,"origin":"FILE:LINE:COLUMN"},…]}
control::Json settings_json(const std::vector<ConfigSetting>& settings);

/// A line for what is in force now, one for what is not.
std::string reload_text(const control::Json& result);

/// `reload [--json]`.
void add_reload(Program& program);

}  // namespace rnbd::cli
