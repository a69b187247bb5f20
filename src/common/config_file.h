// SPDX-License-Identifier: Apache-2.0
// Configuration files of the daemons: TOML, a key a line, and drop-ins beside them. What is wrong
// is told with its place, "FILE:LINE:COLUMN: reason". Any thread; blocks.
//
// Of /etc/rnbd/server.toml the drop-ins are /etc/rnbd/server.toml.d/*.toml, in the order of their
// names. A later file overrides an earlier one key by key.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/result.h"
#include "common/words.h"

namespace rnbd {

struct ConfigItem;
using ConfigTable = std::vector<ConfigItem>;

/// A key and its value. Places are "FILE:LINE:COLUMN".
struct ConfigItem {
  std::string key;
  std::string key_place;
  std::string place;  ///< of the value
  /// The view: what it is, if it is none of the others ("a date or time").
  std::variant<std::string_view, std::string, std::int64_t, bool, std::vector<ConfigTable>> value;
};

/// Where each key was set last; one that is not here has its default.
using ConfigOrigins = std::map<std::string, std::string, std::less<>>;

/// One key of what is in force; for people and scripts.
struct ConfigSetting {
  std::string key;
  nlohmann::ordered_json value;  ///< nothing: not set, and without a default
  std::string origin;            ///< "FILE:LINE:COLUMN", or empty: its default
};

[[nodiscard]] std::unexpected<Error> wrong_at(std::string_view place, std::string_view why);

/// The value, if it is of that type. Errors: EINVAL with its place.
Result<std::string> text_of(const ConfigItem& item);
Result<std::int64_t> number_of(const ConfigItem& item);
Result<bool> truth_of(const ConfigItem& item);
Result<std::vector<ConfigTable>> tables_of(const ConfigItem& item);

/// `file` and its drop-ins, in the order in which they count. That there are none is fine. Errors:
/// those of reading the directory.
Result<std::vector<std::string>> config_files(const std::string& file);

/// Errors: EINVAL with a place; those of reading the file.
Result<ConfigTable> read_config(const std::string& file);

/// Sets a number, or a text, that `check` finds good. Errors: as those of the readers.
template <typename Field>
Status set_number(const ConfigItem& item, Status (*check)(std::int64_t), Field& field) {
  const auto value = number_of(item);
  if (!value) return fail(value.error());
  if (Status good = check(*value); !good) return wrong_at(item.place, good.error().message);
  field = static_cast<Field>(*value);
  return {};
}
Status set_text(const ConfigItem& item, Status (*check)(std::string_view), std::string& field);

/// How a key is understood and shown. `set` answers with the place of what is wrong.
template <typename Options>
struct ConfigKey {
  std::string_view name;
  Status (*set)(const ConfigItem& item, Options& options);
  nlohmann::ordered_json (*show)(const Options& options);
};

template <typename Options>
Status apply_config(const ConfigTable& table, std::span<const ConfigKey<Options>> keys,
                    Options& options, ConfigOrigins& origins) {
  for (const ConfigItem& item : table) {
    const auto key = std::ranges::find(keys, item.key, &ConfigKey<Options>::name);
    if (key == keys.end()) {
      std::vector<std::string_view> names;
      for (const auto& one : keys) names.push_back(one.name);
      return wrong_at(item.key_place,
                      fmt::format("unknown key '{}'{}", item.key, did_you_mean(item.key, names)));
    }
    if (Status set = key->set(item, options); !set) return set;
    origins[item.key] = item.key_place;
  }
  return {};
}

/// Overwrites what `file` and its drop-ins set. Errors: EINVAL with a place; those of reading the
/// files. `options` are unchanged then.
template <typename Options>
Result<ConfigOrigins> load_config_files(const std::string& file,
                                        std::span<const ConfigKey<Options>> keys,
                                        Options& options) {
  const auto files = config_files(file);
  if (!files) return fail(files.error());
  Options changed = options;
  ConfigOrigins origins;
  for (const std::string& one : *files) {
    const auto table = read_config(one);
    if (!table) return fail(table.error());
    if (Status applied = apply_config(*table, keys, changed, origins); !applied) {
      return fail(applied.error());
    }
  }
  options = std::move(changed);
  return origins;
}

template <typename Options>
std::vector<ConfigSetting> show_settings(std::span<const ConfigKey<Options>> keys,
                                         const Options& options, const ConfigOrigins& origins) {
  std::vector<ConfigSetting> settings;
  for (const auto& key : keys) {
    const auto origin = origins.find(key.name);
    settings.push_back({std::string(key.name), key.show(options),
                        origin == origins.end() ? std::string() : origin->second});
  }
  return settings;
}

/// Names of the keys whose values differ.
template <typename Options>
std::vector<std::string_view> differing_keys(std::span<const ConfigKey<Options>> keys,
                                             const Options& one, const Options& other) {
  std::vector<std::string_view> names;
  for (const auto& key : keys) {
    if (key.show(one) != key.show(other)) names.push_back(key.name);
  }
  return names;
}

}  // namespace rnbd
