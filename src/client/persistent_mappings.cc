// SPDX-License-Identifier: Apache-2.0
#include "client/persistent_mappings.h"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rnbd::client {
namespace {

bool is_of(std::string_view word, std::string_view key) {
  return word.starts_with(key) && word.substr(key.size()).starts_with('=');
}

bool says(std::span<const std::string> words, std::string_view key) {
  return std::ranges::any_of(words, [&](std::string_view word) { return is_of(word, key); });
}

/// One for all, or one for each.
std::string ports_word(std::span<const PathSpec> paths) {
  std::vector<std::uint16_t> ports;
  for (const PathSpec& path : paths) ports.push_back(path.port);
  if (std::ranges::adjacent_find(ports, std::ranges::not_equal_to()) == ports.end()) {
    ports.resize(1);
  }
  return fmt::format("dest_port={}", fmt::join(ports, ","));
}

/// In place of what they say of the same; false if they say it already.
bool say(std::vector<std::string>& words, const std::string& word) {
  if (std::ranges::find(words, word) != words.end()) return false;
  const std::string_view key = std::string_view(word).substr(0, word.find('='));
  std::erase_if(words, [&](std::string_view one) { return is_of(one, key); });
  words.push_back(word);
  return true;
}

}  // namespace

PersistentMapping make_persistent(std::span<const std::string> words, const MapRequest& request,
                                  std::span<const PathSpec> paths, std::string node) {
  PersistentMapping made{.session = request.session_name,
                         .device_path = request.device_path,
                         .words = {},
                         .node = std::move(node)};
  for (const std::string& word : words) {
    if (!word.starts_with("persist=")) made.words.push_back(word);
  }
  // This host may be called otherwise when it starts again.
  if (!says(words, "sessname")) made.words.push_back("sessname=" + request.session_name);
  if (says(words, "server") || says(words, "path")) return made;
  paths = paths.first(std::min(paths.size(), kMaxPaths));
  for (const PathSpec& path : paths) {
    made.words.push_back(path.source.empty()
                             ? fmt::format("path={}", path.destination)
                             : fmt::format("path={}@{}", path.source, path.destination));
  }
  // Of a session that was there a port that is said means nothing.
  if (!paths.empty()) say(made.words, ports_word(paths));
  return made;
}

PersistentMappings PersistentMappings::from_json(const control::Json& json) {
  PersistentMappings made;
  for (const control::Json& one : json.at("mappings")) {
    PersistentMapping mapping{.session = one.at("session").get<std::string>(),
                              .device_path = one.at("device_path").get<std::string>(),
                              .words = one.at("words").get<std::vector<std::string>>(),
                              .node = one.at("node").get<std::string>()};
    if (mapping.session.empty() || mapping.device_path.empty()) {
      throw std::invalid_argument("a mapping of nothing");
    }
    made.put(std::move(mapping));
  }
  return made;
}

control::Json PersistentMappings::to_json() const {
  control::Json list = control::Json::array();
  for (const PersistentMapping& one : all_) {
    list.push_back({{"session", one.session},
                    {"device_path", one.device_path},
                    {"words", one.words},
                    {"node", one.node}});
  }
  return {{"mappings", std::move(list)}};
}

PersistentMapping* PersistentMappings::find(std::string_view session,
                                            std::string_view device_path) {
  const auto found = std::ranges::find_if(all_, [&](const PersistentMapping& one) {
    return one.session == session && one.device_path == device_path;
  });
  return found == all_.end() ? nullptr : &*found;
}

const PersistentMapping* PersistentMappings::find(std::string_view session,
                                                  std::string_view device_path) const {
  const auto found = std::ranges::find_if(all_, [&](const PersistentMapping& one) {
    return one.session == session && one.device_path == device_path;
  });
  return found == all_.end() ? nullptr : &*found;
}

void PersistentMappings::put(PersistentMapping mapping) {
  if (PersistentMapping* const known = find(mapping.session, mapping.device_path)) {
    *known = std::move(mapping);
  } else {
    all_.push_back(std::move(mapping));
  }
}

bool PersistentMappings::change(std::string_view session, std::span<const std::string> words) {
  bool changed = false;
  for (PersistentMapping& one : all_) {
    if (one.session != session) continue;
    for (const std::string& word : words) changed |= say(one.words, word);
  }
  return changed;
}

bool PersistentMappings::erase(std::string_view session, std::string_view device_path) {
  return std::erase_if(all_, [&](const PersistentMapping& one) {
           return one.session == session && one.device_path == device_path;
         }) > 0;
}

}  // namespace rnbd::client
