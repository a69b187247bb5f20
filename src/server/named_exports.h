// SPDX-License-Identifier: Apache-2.0
// Disks that the administrator exports by a name: [[export]] of the configuration, and what
// `rnbd-server export add` has added. They are looked up before dev_search_path, and may lie
// anywhere. Control thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace rnbd::server {

struct NamedExport {
  std::string name;        ///< what clients say as device_path
  std::string path;        ///< absolute, of a block device or a regular file
  bool read_only = false;  ///< writers are refused
};

/// Without the slashes and dots that mean nothing in a path: "/img" and "./img" are "img".
std::string plain_name(std::string_view asked);

/// Each returns EINVAL, with a message that begins with what is checked.
/// 1 to 254 bytes, no control characters, more than slashes and dots.
Status check_export_name(std::string_view name);
Status check_export_path(std::string_view path);  ///< absolute

/// "rw" or "ro"; EINVAL. The answer: whether it is read-only.
Result<bool> parse_export_access(std::string_view access);
std::string_view access_name(bool read_only);

/// Who has said so.
enum class ExportOrigin : std::uint8_t {
  Configured,  ///< the configuration
  Added,       ///< a command, for good
  Temporary,   ///< a command, until the daemon ends
};

/// What the configuration says counts more than what a command has added under the same name. That
/// is hidden then, and neither lost nor changed: it counts again when the configuration does not
/// have the name any more, and can be removed meanwhile. Names are the same however they are spelt:
/// plain_name().
class NamedExports {
 public:
  struct Entry {
    NamedExport disk;
    ExportOrigin origin = ExportOrigin::Configured;
    bool hidden = false;  ///< the configuration has its name
  };

  /// Replaces what the configuration has said before.
  void configure(const std::vector<NamedExport>& exports);

  /// EEXIST, if clients get something under that name.
  [[nodiscard]] Status check_free(std::string_view name) const;

  /// Errors: EEXIST.
  Status add(NamedExport disk, ExportOrigin origin);

  /// Takes up what was added before, hidden perhaps, and not twice.
  void put_back(Entry entry);

  /// Takes away what was added, and answers with it. Errors: ENOENT; EPERM: only the configuration
  /// has it.
  Result<Entry> remove(std::string_view asked);

  /// What clients get under that name. Null if there is none.
  [[nodiscard]] const Entry* find(std::string_view asked) const;

  /// What was added under that name, hidden perhaps. Null if nothing was.
  [[nodiscard]] const Entry* find_added(std::string_view asked) const;

  /// By name; what is hidden follows what hides it.
  [[nodiscard]] std::vector<Entry> list() const;

  /// What a state file has to keep.
  [[nodiscard]] std::vector<NamedExport> added_for_good() const;

 private:
  using Entries = std::map<std::string, Entry, std::less<>>;  ///< by plain name
  void mark_hidden();

  Entries configured_;
  Entries added_;
};

}  // namespace rnbd::server
