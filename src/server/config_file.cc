// SPDX-License-Identifier: Apache-2.0
#include "server/config_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <toml++/toml.h>
#include <utility>

#include <fmt/format.h>

#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/text_file.h"
#include "common/words.h"
#include "server/daemon_options.h"

namespace rnbd::server {
namespace {

std::string_view type_name(const toml::node& value) {
  switch (value.type()) {
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    case toml::node_type::none:
      break;  // nodes of a parsed file have a type
  }
  return "nothing";
}

template <typename T>
Result<T> value_of(const toml::node& node, std::string_view key, std::string_view wanted) {
  if (const auto* value = node.as<T>()) return value->get();
  return fail(EINVAL, fmt::format("{} must be {}, not {}", key, wanted, type_name(node)));
}

template <typename Field>
Status set_number(const toml::node& node, std::string_view key, Status (*check)(std::int64_t),
                  Field& field) {
  const auto value = value_of<std::int64_t>(node, key, "a whole number");
  if (!value) return fail(value.error());
  if (auto checked = check(*value); !checked) return checked;
  field = static_cast<Field>(*value);
  return {};
}

Status set_text(const toml::node& node, std::string_view key, Status (*check)(std::string_view),
                std::string& field) {
  auto value = value_of<std::string>(node, key, "a string");
  if (!value) return fail(value.error());
  if (auto checked = check(*value); !checked) return checked;
  field = std::move(*value);
  return {};
}

struct Key {
  std::string_view name;
  Status (*set)(const toml::node& node, std::string_view key, DaemonOptions& options);
};

constexpr std::array kKeys = {
    Key{"port_nr",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_number(node, key, check_port_nr, options.port_nr);
        }},
    Key{"dev_search_path",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_text(node, key, check_dev_search_path, options.dev_search_path);
        }},
    Key{"sess_queue_depth",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_number(node, key, check_sess_queue_depth, options.sess_queue_depth);
        }},
    Key{"max_io_size",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_number(node, key, check_max_io_size, options.max_io_size);
        }},
    Key{"always_invalidate",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) -> Status {
          const auto value = value_of<bool>(node, key, "true or false");
          if (!value) return fail(value.error());
          options.always_invalidate = *value;
          return {};
        }},
    Key{"hb_interval_ms",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_number(node, key, check_hb_interval, options.hb_interval_ms);
        }},
    Key{"hb_missed_max",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_number(node, key, check_hb_missed_max, options.hb_missed_max);
        }},
    Key{"slow_io_ms",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_number(node, key, check_slow_io_ms, options.slow_io_ms);
        }},
    Key{"metrics_listen",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_text(node, key, check_metrics_listen, options.metrics_listen);
        }},
    Key{"control",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_text(node, key, check_control, options.control_path);
        }},
    Key{"log_level",
        [](const toml::node& node, std::string_view key, DaemonOptions& options) {
          return set_text(node, key, check_log_level, options.log_level);
        }},
};

constexpr auto kKeyNames = [] {
  std::array<std::string_view, kKeys.size()> names;
  std::ranges::transform(kKeys, names.begin(), &Key::name);
  return names;
}();

std::unexpected<Error> fail_at(const std::string& path, const toml::source_position& where,
                               std::string_view reason) {
  return fail(EINVAL, fmt::format("{}:{}:{}: {}", path, where.line, where.column, reason));
}

Status apply(const toml::table& table, const std::string& path, DaemonOptions& options) {
  for (const auto& [name, node] : table) {
    const std::string_view text = name.str();
    const auto key = std::ranges::find(kKeys, text, &Key::name);
    if (key == kKeys.end()) {
      return fail_at(path, name.source().begin,
                     fmt::format("unknown key '{}'{}", text, did_you_mean(text, kKeyNames)));
    }
    if (auto set = key->set(node, text, options); !set) {
      return fail_at(path, node.source().begin, set.error().message);
    }
  }
  return {};
}

}  // namespace

Status load_config(const std::string& path, DaemonOptions& options) {
  const auto text = read_text_file(path);
  if (!text) return fail(text.error());
  DaemonOptions changed = options;
  try {
    const toml::table table = toml::parse(*text);
    if (auto applied = apply(table, path, changed); !applied) return applied;
  } catch (const toml::parse_error& error) {
    return fail_at(path, error.source().begin, error.description());
  }
  changed.config_file = path;
  options = std::move(changed);
  return {};
}

std::span<const std::string_view> config_keys() { return kKeyNames; }

}  // namespace rnbd::server
