// SPDX-License-Identifier: Apache-2.0
#include "client/config_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <sys/un.h>

#include "client/map_defaults.h"
#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/spin.h"

namespace rnbd::client {
namespace {

constexpr int kFirstInherited = 3;  // sd_listen_fds(3)

using Json = nlohmann::ordered_json;
using SetKey = ConfigKey<DaemonOptions>;

Status set_word(const ConfigItem& item, std::string_view value, DaemonOptions& options) {
  if (Status set = set_default(options.map_defaults, item.key, value); !set) {
    return wrong_at(item.place, set.error().message);
  }
  return {};
}

Status set_number_word(const ConfigItem& item, DaemonOptions& options) {
  const auto number = number_of(item);
  if (!number) return fail(number.error());
  return set_word(item, std::to_string(*number), options);
}

Status set_text_word(const ConfigItem& item, DaemonOptions& options) {
  const auto text = text_of(item);
  if (!text) return fail(text.error());
  return set_word(item, *text, options);
}

Json show_number(const DaemonOptions& options, std::string_view word, std::int64_t otherwise) {
  const std::string_view text = default_of(options.map_defaults, word);
  std::from_chars(text.data(), text.data() + text.size(), otherwise);
  return otherwise;
}

Json show_text(const DaemonOptions& options, std::string_view word, std::string_view otherwise) {
  const std::string_view text = default_of(options.map_defaults, word);
  return text.empty() ? otherwise : text;
}

constexpr std::array kConfigKeys = {
    SetKey{
        "hb_interval_ms", set_number_word,
        [](const DaemonOptions& options) { return show_number(options, "hb_interval_ms", 100); }},
    SetKey{"hb_missed_max", set_number_word,
           [](const DaemonOptions& options) { return show_number(options, "hb_missed_max", 5); }},
    SetKey{"mpath_policy", set_text_word,
           [](const DaemonOptions& options) {
             return show_text(options, "mpath_policy", "min-inflight");
           }},
    SetKey{"max_reconnect_attempts", set_number_word,
           [](const DaemonOptions& options) {
             return show_number(options, "max_reconnect_attempts", -1);
           }},
    SetKey{"on_no_path", set_text_word,
           [](const DaemonOptions& options) { return show_text(options, "on_no_path", "queue"); }},
    SetKey{"control",
           [](const ConfigItem& item, DaemonOptions& options) {
             return set_text(item, check_control, options.control_path);
           },
           [](const DaemonOptions& options) { return Json(options.control_path); }},
    SetKey{"log_level",
           [](const ConfigItem& item, DaemonOptions& options) {
             return set_text(item, check_log_level, options.log_level);
           },
           [](const DaemonOptions& options) { return Json(options.log_level); }},
    SetKey{"slow_io_ms",
           [](const ConfigItem& item, DaemonOptions& options) {
             return set_number(item, check_slow_io_ms, options.slow_io_ms);
           },
           [](const DaemonOptions& options) { return Json(options.slow_io_ms); }},
    SetKey{"spin_us",
           [](const ConfigItem& item, DaemonOptions& options) {
             return set_number(item, check_spin_us, options.spin_us);
           },
           [](const DaemonOptions& options) { return Json(options.spin_us); }},
    SetKey{"metrics_listen",
           [](const ConfigItem& item, DaemonOptions& options) {
             return set_text(item, check_metrics_listen, options.metrics_listen);
           },
           [](const DaemonOptions& options) { return Json(options.metrics_listen); }},
    SetKey{"state_dir",
           [](const ConfigItem& item, DaemonOptions& options) {
             return set_text(item, check_state_dir, options.state_dir);
           },
           [](const DaemonOptions& options) { return Json(options.state_dir); }},
};

constexpr std::span<const SetKey> config_key_table() { return kConfigKeys; }

constexpr auto kConfigKeyNames = [] {
  std::array<std::string_view, kConfigKeys.size()> names;
  std::ranges::transform(kConfigKeys, names.begin(), &SetKey::name);
  return names;
}();

}  // namespace

Status check_control(std::string_view path) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (!path.empty() && path.size() <= kLongest) return {};
  return fail(EINVAL, fmt::format("control must be a path of 1 to {} bytes", kLongest));
}

Result<ConfigOrigins> load_config(const std::string& path, DaemonOptions& options) {
  DaemonOptions changed = options;
  auto origins = load_config_files(path, config_key_table(), changed);
  if (!origins) return origins;
  changed.config_file = path;
  options = std::move(changed);
  return origins;
}

std::vector<ConfigSetting> show_config(const DaemonOptions& options, const ConfigOrigins& origins) {
  return show_settings(config_key_table(), options, origins);
}

std::vector<std::string_view> changed_keys(const DaemonOptions& running,
                                           const DaemonOptions& wanted) {
  return differing_keys(config_key_table(), running, wanted);
}

std::string config_text(const DaemonOptions& options) {
  std::string text;
  for (const std::string_view name : differing_keys(config_key_table(), DaemonOptions{}, options)) {
    const auto key = std::ranges::find(kConfigKeys, name, &SetKey::name);
    // A string of JSON is one of TOML too.
    text += fmt::format("{} = {}\n", name, key->show(options).dump());
  }
  return text;
}

std::string inherited_config() {
  const char* const names = std::getenv("LISTEN_FDNAMES");
  std::string_view rest = names == nullptr ? "" : names;
  for (int fd = kFirstInherited; !rest.empty(); ++fd) {
    const std::string_view name = rest.substr(0, rest.find(':'));
    if (name == kKeptConfig) return fmt::format("/proc/self/fd/{}", fd);
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
  }
  return {};
}

std::span<const std::string_view> config_keys() { return kConfigKeyNames; }

}  // namespace rnbd::client
