// SPDX-License-Identifier: Apache-2.0
// Verbs by which daemons are administered, as verbs.h has those by which they are used. Pure
// functions, any thread.
//
//   verb    daemon   args                                   result
//   reload  both     {}                                     ReloadResult
//   exports server   {}                                     {"schema_version":1,"exports":[{…},…]}
//   export  server   ExportArgs                             {}
//   drain   server   DrainArgs                              DrainResult
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/control/messages.h"

namespace rnbd::control {

inline constexpr const char* kReloadVerb = "reload";
inline constexpr const char* kExportsVerb = "exports";
inline constexpr const char* kExportVerb = "export";
inline constexpr const char* kDrainVerb = "drain";

/// Keys of the configuration, as the files and the command line say them now.
struct ReloadResult {
  /// What must not change now, for the sake of a client.
  struct Refused {
    std::string key;
    std::string why;
  };
  std::vector<std::string> changed;        ///< and in force
  std::vector<std::string> needs_restart;  ///< and in force only after that
  std::vector<Refused> refused;            ///< not in force; a key may be in `changed` too
};

/// What can be done with named exports.
inline constexpr std::array<std::string_view, 2> kExportActions = {"add", "remove"};

struct ExportArgs {
  std::string action;  ///< one of kExportActions
  std::string name;
  std::string path;           ///< of "add"
  std::string access = "rw";  ///< of "add": or "ro"
  bool temporary = false;     ///< of "add": forgotten when the daemon ends
  bool force = false;         ///< of "remove": closes it for those who have it open
};

/// A disk that is exported by name.
struct ExportEntry {
  std::string name;
  std::string path;
  std::string access;                       ///< "rw" or "ro"
  std::string origin;                       ///< "config", "added" or "temporary"
  bool hidden = false;                      ///< was added, and the configuration has its name
  std::optional<std::uint64_t> size_bytes;  ///< none: see error
  std::string error;                        ///< why nobody could open it now
  std::vector<std::string> opened_by;       ///< sessions
};

struct DrainArgs {
  std::string session;  ///< empty: all, and those to come
  bool off = false;     ///< take what comes again
  bool look = false;    ///< only say how far it is; ECANCELED if it is not drained any more
};

struct DrainResult {
  std::uint64_t devices = 0;    ///< still open
  std::uint64_t returning = 0;  ///< sessions that were lost with devices open, and may come back
};

Json to_json(const ReloadResult& result);
Json to_json(const ExportArgs& args);
Json to_json(const ExportEntry& entry);
/// `exports`: an array of what to_json(ExportEntry) made.
Json exports_result(Json exports);
Json to_json(const DrainArgs& args);
Json to_json(const DrainResult& result);

/// Readers for the daemons. EINVAL names the member that is missing or of the wrong type.
Result<ExportArgs> read_export_args(const Json& args);
Result<DrainArgs> read_drain_args(const Json& args);

/// Readers for the commands. EPROTO: the daemon does not keep the contract.
Result<ReloadResult> read_reload_result(const Json& result);
Result<DrainResult> read_drain_result(const Json& result);
Status check_reload_result(const Json& result);
Status check_exports_result(const Json& result);

}  // namespace rnbd::control
