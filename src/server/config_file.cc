// SPDX-License-Identifier: Apache-2.0
#include "server/config_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/spin.h"
#include "server/daemon_options.h"

namespace rnbd::server {
namespace {

using Json = nlohmann::ordered_json;
using Key = ConfigKey<DaemonOptions>;

Status set_truth(const ConfigItem& item, bool& field) {
  const auto value = truth_of(item);
  if (!value) return fail(value.error());
  field = *value;
  return {};
}

Status set_access(const ConfigItem& item, bool& read_only) {
  const auto text = text_of(item);
  if (!text) return fail(text.error());
  const auto access = parse_export_access(*text);
  if (!access) return wrong_at(item.place, access.error().message);
  read_only = *access;
  return {};
}

Status set_export_key(const ConfigItem& item, NamedExport& made) {
  constexpr std::array<std::string_view, 3> kNames = {"name", "path", "access"};
  if (item.key == "name") return set_text(item, check_export_name, made.name);
  if (item.key == "path") return set_text(item, check_export_path, made.path);
  if (item.key == "access") return set_access(item, made.read_only);
  return wrong_at(item.key_place, fmt::format("unknown key '{}' of an export{}", item.key,
                                              did_you_mean(item.key, kNames)));
}

Result<NamedExport> read_export(const ConfigTable& table, std::string_view place) {
  NamedExport made;
  for (const ConfigItem& item : table) {
    if (Status set = set_export_key(item, made); !set) return fail(set.error());
  }
  for (const auto& [name, value] : {std::pair("name", &made.name), std::pair("path", &made.path)}) {
    if (!value->empty()) continue;
    return wrong_at(table.empty() ? place : table.front().key_place,
                    fmt::format("an export without a {}", name));
  }
  return made;
}

Status add_exports(const ConfigItem& item, DaemonOptions& options) {
  const auto tables = tables_of(item);
  if (!tables) return fail(tables.error());
  std::vector<std::string> here;
  for (const ConfigTable& table : *tables) {
    auto made = read_export(table, item.place);
    if (!made) return fail(made.error());
    const std::string name = plain_name(made->name);
    if (std::ranges::find(here, name) != here.end()) {
      return wrong_at(table.front().key_place,
                      fmt::format("two exports are called '{}'", made->name));
    }
    here.push_back(name);
    std::erase_if(options.exports,
                  [&](const NamedExport& one) { return plain_name(one.name) == name; });
    options.exports.push_back(std::move(*made));
  }
  return {};
}

Json show_exports(const DaemonOptions& options) {
  Json list = Json::array();
  for (const NamedExport& one : options.exports) {
    list.push_back(
        {{"name", one.name}, {"path", one.path}, {"access", access_name(one.read_only)}});
  }
  return list;
}

/// The key of kLimitOptions[Index].
template <std::size_t Index>
struct LimitKey {
  static Status check(std::int64_t value) { return check_limit(kLimitOptions[Index], value); }
  static Status set(const ConfigItem& item, DaemonOptions& options) {
    return set_number(item, check, options.limits.*kLimitOptions[Index].field);
  }
  static Json show(const DaemonOptions& options) {
    return options.limits.*kLimitOptions[Index].field;
  }
};

template <std::size_t Index>
constexpr Key limit_key() {
  return {kLimitOptions[Index].key, LimitKey<Index>::set, LimitKey<Index>::show};
}

constexpr std::array kKeys = {
    Key{"port_nr",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_port_nr, options.port_nr);
        },
        [](const DaemonOptions& options) { return Json(options.port_nr); }},
    Key{"dev_search_path",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_text(item, check_dev_search_path, options.dev_search_path);
        },
        [](const DaemonOptions& options) { return Json(options.dev_search_path); }},
    Key{"sess_queue_depth",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_sess_queue_depth, options.sess_queue_depth);
        },
        [](const DaemonOptions& options) { return Json(options.sess_queue_depth); }},
    Key{"max_io_size",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_max_io_size, options.max_io_size);
        },
        [](const DaemonOptions& options) { return Json(options.max_io_size); }},
    Key{"always_invalidate",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_truth(item, options.always_invalidate);
        },
        [](const DaemonOptions& options) { return Json(options.always_invalidate); }},
    Key{"hb_interval_ms",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_hb_interval, options.hb_interval_ms);
        },
        [](const DaemonOptions& options) { return Json(options.hb_interval_ms); }},
    Key{"hb_missed_max",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_hb_missed_max, options.hb_missed_max);
        },
        [](const DaemonOptions& options) { return Json(options.hb_missed_max); }},
    Key{"slow_io_ms",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_slow_io_ms, options.slow_io_ms);
        },
        [](const DaemonOptions& options) { return Json(options.slow_io_ms); }},
    Key{"spin_us",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_number(item, check_spin_us, options.spin_us);
        },
        [](const DaemonOptions& options) { return Json(options.spin_us); }},
    Key{"metrics_listen",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_text(item, check_metrics_listen, options.metrics_listen);
        },
        [](const DaemonOptions& options) { return Json(options.metrics_listen); }},
    Key{"control",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_text(item, check_control, options.control_path);
        },
        [](const DaemonOptions& options) { return Json(options.control_path); }},
    Key{"log_level",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_text(item, check_log_level, options.log_level);
        },
        [](const DaemonOptions& options) { return Json(options.log_level); }},
    Key{"state_dir",
        [](const ConfigItem& item, DaemonOptions& options) {
          return set_text(item, check_state_dir, options.state_dir);
        },
        [](const DaemonOptions& options) { return Json(options.state_dir); }},
    limit_key<0>(),
    limit_key<1>(),
    limit_key<2>(),
    limit_key<3>(),
    limit_key<4>(),
    limit_key<5>(),
    limit_key<6>(),
    limit_key<7>(),
    Key{"export", add_exports, show_exports},
};

static_assert(kLimitOptions.size() == 8, "each has its key above");

constexpr std::span<const Key> keys() { return kKeys; }

constexpr auto kKeyNames = [] {
  std::array<std::string_view, kKeys.size()> names;
  std::ranges::transform(kKeys, names.begin(), &Key::name);
  return names;
}();

}  // namespace

Result<ConfigOrigins> load_config(const std::string& path, DaemonOptions& options) {
  DaemonOptions changed = options;
  auto origins = load_config_files(path, keys(), changed);
  if (!origins) return origins;
  changed.config_file = path;
  options = std::move(changed);
  return origins;
}

std::vector<ConfigSetting> show_config(const DaemonOptions& options, const ConfigOrigins& origins) {
  return show_settings(keys(), options, origins);
}

std::vector<std::string_view> changed_keys(const DaemonOptions& running,
                                           const DaemonOptions& wanted) {
  return differing_keys(keys(), running, wanted);
}

std::span<const std::string_view> config_keys() { return kKeyNames; }

}  // namespace rnbd::server
