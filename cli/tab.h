// SPDX-License-Identifier: Apache-2.0
// rnbdtab as the commands use it: read, and held against what is mapped.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "client/rnbdtab.h"
#include "common/control/messages.h"

namespace rnbd::cli {

/// Errors: exit code 12 with FILE:LINE:COLUMN; those of opening it.
std::expected<std::vector<client::TabEntry>, control::Failure> load_tab(const std::string& file);

/// Errors: ENOENT, with the nearest name.
Result<client::TabEntry> find_in_tab(const std::vector<client::TabEntry>& entries,
                                     const std::string& name);

/// A device that a daemon's `list` tells of.
struct MappedDevice {
  std::string device;
  std::string session;
  std::string mapping_path;
};

std::vector<MappedDevice> mapped_devices(const control::Json& list);

/// The one that an entry is mapped as; nothing if it is not.
const MappedDevice* mapped_as(const client::TabEntry& entry,
                              const std::vector<MappedDevice>& devices);

/// One step towards what rnbdtab says.
struct TabChange {
  bool map = true;   ///< or unmap
  std::string name;  ///< of the line; of a device that no line names: its node
  std::string session;
  std::string mapping_path;
  std::string device;              ///< the node; of a mapping to be made, once it is
  std::vector<std::string> words;  ///< of a mapping
  std::optional<control::Failure> failure;

  [[nodiscard]] std::string text() const;  ///< "+ vol1 /dev/nbd0", "- /dev/nbd3 blya vol2"
};

/// What `apply` does: maps what is missing and automatic, and, to prune, unmaps what no line names.
class TabChanges {
 public:
  TabChanges(const std::vector<client::TabEntry>& entries, const std::vector<MappedDevice>& devices,
             bool prune);

  [[nodiscard]] std::vector<TabChange>& all() { return changes_; }
  [[nodiscard]] std::string text() const;
  /// {"schema_version":1,"changes":[{"action":"map","name":…,"device":…,"error":…},…]}
  [[nodiscard]] control::Json json() const;
  /// 0; the failure of the only step; exit code 11 if some failed, 1 if all did.
  [[nodiscard]] std::expected<int, control::Failure> conclude() const;

 private:
  std::vector<TabChange> changes_;
};

}  // namespace rnbd::cli
