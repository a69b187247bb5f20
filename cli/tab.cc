// SPDX-License-Identifier: Apache-2.0
#include "cli/tab.h"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/fields.h"
#include "cli/output.h"
#include "common/control/verbs.h"
#include "common/host_name.h"
#include "common/text_file.h"
#include "common/words.h"

namespace rnbd::cli {
namespace {

bool is_for(const client::TabEntry& entry, const MappedDevice& device) {
  return entry.session_name == device.session && entry.device_path == device.mapping_path;
}

}  // namespace

std::expected<std::vector<client::TabEntry>, control::Failure> load_tab(const std::string& file) {
  const auto text = read_text_file(file);
  if (!text) return std::unexpected(control::to_failure(text.error()));
  auto entries = client::parse_rnbdtab(*text, host_name());
  if (entries) return std::move(*entries);
  return std::unexpected(
      control::Failure{{EINVAL, fmt::format("{}:{}", file, entries.error().message)},
                       control::ExitCode::ConfigInvalid,
                       {}});
}

Result<client::TabEntry> find_in_tab(const std::vector<client::TabEntry>& entries,
                                     const std::string& name) {
  const auto found = std::ranges::find(entries, name, &client::TabEntry::name);
  if (found != entries.end()) return *found;
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const client::TabEntry& entry : entries) names.emplace_back(entry.name);
  return fail(ENOENT,
              fmt::format("no line of rnbdtab is called '{}'{}", name, did_you_mean(name, names)));
}

std::vector<MappedDevice> mapped_devices(const control::Json& list) {
  std::vector<MappedDevice> devices;
  for (const control::Json& one : list.at("devices")) {
    devices.push_back(
        {text_of(one, "device"), text_of(one, "session"), text_of(one, "mapping_path")});
  }
  return devices;
}

const MappedDevice* mapped_as(const client::TabEntry& entry,
                              const std::vector<MappedDevice>& devices) {
  const auto found =
      std::ranges::find_if(devices, [&](const MappedDevice& one) { return is_for(entry, one); });
  return found == devices.end() ? nullptr : &*found;
}

std::string TabChange::text() const {
  if (!map) return fmt::format("- {} {} {}\n", device, session, mapping_path);
  return fmt::format("+ {} {}\n", name,
                     device.empty() ? fmt::format("{}", fmt::join(words, " ")) : device);
}

TabChanges::TabChanges(const std::vector<client::TabEntry>& entries,
                       const std::vector<MappedDevice>& devices, bool prune) {
  for (const client::TabEntry& entry : entries) {
    if (!entry.automatic || mapped_as(entry, devices) != nullptr) continue;
    changes_.push_back({.map = true,
                        .name = entry.name,
                        .session = entry.session_name,
                        .mapping_path = entry.device_path,
                        .device = {},
                        .words = entry.words,
                        .failure = {}});
  }
  if (!prune) return;
  for (const MappedDevice& device : devices) {
    const bool named = std::ranges::any_of(
        entries, [&](const client::TabEntry& entry) { return is_for(entry, device); });
    if (named) continue;
    changes_.push_back({.map = false,
                        .name = device.device,
                        .session = device.session,
                        .mapping_path = device.mapping_path,
                        .device = device.device,
                        .words = {},
                        .failure = {}});
  }
}

std::string TabChanges::text() const {
  std::string text;
  for (const TabChange& change : changes_) text += change.text();
  return text;
}

control::Json TabChanges::json() const {
  control::Json list = control::Json::array();
  for (const TabChange& change : changes_) {
    control::Json one = {{"action", change.map ? "map" : "unmap"},
                         {"name", change.name},
                         {"session", change.session},
                         {"mapping_path", change.mapping_path}};
    if (!change.device.empty()) one["device"] = change.device;
    if (change.failure) one["error"] = control::to_json(*change.failure);
    list.push_back(std::move(one));
  }
  return {{"schema_version", control::kSchemaVersion}, {"changes", std::move(list)}};
}

std::expected<int, control::Failure> TabChanges::conclude() const {
  const auto failed = std::ranges::count_if(
      changes_, [](const TabChange& change) { return change.failure.has_value(); });
  if (failed == 0) return 0;
  if (changes_.size() == 1) return std::unexpected(*changes_.front().failure);
  return std::unexpected(steps_failure(static_cast<std::size_t>(failed), changes_.size()));
}

}  // namespace rnbd::cli
