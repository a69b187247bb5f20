// SPDX-License-Identifier: Apache-2.0
// What was mapped with persist=yes and not unmapped since: mapped again by a daemon that finds
// nothing of it. Pure; control thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/map_words.h"
#include "common/control/messages.h"

namespace rnbd::client {

struct PersistentMapping {
  std::string session;
  std::string device_path;
  std::vector<std::string> words;  ///< of map; they mean it whatever else is mapped
  std::string node;                ///< that it had last

  /// How it is called while it has no node: "SESSION/DEVICE".
  [[nodiscard]] std::string name() const { return session + '/' + device_path; }
};

/// What `words`, which have been understood as `request`, mean once nothing else is left of them:
/// the session's name, and the ways to it, if they do not say those themselves. `paths`: the
/// session's, each with its port.
PersistentMapping make_persistent(std::span<const std::string> words, const MapRequest& request,
                                  std::span<const PathSpec> paths, std::string node);

class PersistentMappings {
 public:
  /// Throws what the JSON library throws, and invalid_argument.
  static PersistentMappings from_json(const control::Json& json);
  [[nodiscard]] control::Json to_json() const;

  /// Null if there is none.
  PersistentMapping* find(std::string_view session, std::string_view device_path);
  [[nodiscard]] const PersistentMapping* find(std::string_view session,
                                              std::string_view device_path) const;

  /// Adds one, or replaces that of the same session and device.
  void put(PersistentMapping mapping);
  /// Has all of the session say `words` in place of what they say of the same. False if that is
  /// what they did.
  bool change(std::string_view session, std::span<const std::string> words);
  /// False if there is none.
  bool erase(std::string_view session, std::string_view device_path);

  [[nodiscard]] const std::vector<PersistentMapping>& all() const { return all_; }

 private:
  std::vector<PersistentMapping> all_;
};

}  // namespace rnbd::client
