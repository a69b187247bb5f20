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

/// Each returns EINVAL, with a message that begins with what is checked.
Status check_export_name(std::string_view name);  ///< 1 to 254 bytes, no control characters
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

class NamedExports {
 public:
  struct Entry {
    NamedExport disk;
    ExportOrigin origin = ExportOrigin::Configured;
  };

  /// Replaces what the configuration has said before.
  void configure(const std::vector<NamedExport>& exports);

  /// Errors: EEXIST.
  Status add(NamedExport disk, ExportOrigin origin);

  /// Takes away what was added. Errors: ENOENT; EPERM: the configuration has it.
  Status remove(std::string_view name);

  /// Null if there is none. The configuration's counts more than one that was added before.
  /// However it is spelt: "/img" and "./img" are "img".
  [[nodiscard]] const Entry* find(std::string_view asked) const;

  /// By name.
  [[nodiscard]] std::vector<Entry> list() const;

  /// What a state file has to keep.
  [[nodiscard]] std::vector<NamedExport> added_for_good() const;

 private:
  std::map<std::string, Entry, std::less<>> configured_;
  std::map<std::string, Entry, std::less<>> added_;
};

}  // namespace rnbd::server
