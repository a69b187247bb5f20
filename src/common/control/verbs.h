// SPDX-License-Identifier: Apache-2.0
// What the verbs of the control socket take and answer: the contract between the commands and the
// daemons. Pure functions, any thread. Each message has its builder and its reader here, so that
// neither side spells a field's name.
//
//   verb    daemon   args                                   result
//   map     client   {"words":["server=ip:…",…]}            {"device":"/dev/nbd0"}
//   unmap   client   {"device":"/dev/nbd0","force":false}   {}
//   list    both     {}                                     {"schema_version":1,"devices":[{…},…]}
//
// A device of `list` has the fields of DeviceEntry, in that order; daemons may add more, which
// `list --json` passes on. Sizes are bytes. Nothing mapped is an empty array.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/control/messages.h"

namespace rnbd::control {

inline constexpr const char* kMapVerb = "map";
inline constexpr const char* kUnmapVerb = "unmap";
inline constexpr const char* kListVerb = "list";

/// Of the JSON that `list` prints. Fields may be added under the same number.
inline constexpr int kSchemaVersion = 1;

struct UnmapArgs {
  std::string device;  ///< "/dev/nbd0"
  bool force = false;  ///< fail what is in flight instead of refusing a device in use
};

/// One mapped device (client daemon) or one device opened by a client (server daemon).
struct DeviceEntry {
  std::string device;   ///< node on this host: "/dev/nbd0"; server: the file or device exported
  std::string session;  ///< session name
  std::string mapping_path;  ///< the name by which the client asked for it
  std::string state;         ///< "open" or "closed"
  std::string access_mode;   ///< "ro", "rw" or "migration"
  std::string io_mode;       ///< "blockio" or "fileio"
  std::uint64_t size_bytes = 0;
  std::string client;  ///< the client's address; server daemon only, else left out
};

Json map_args(std::span<const std::string> words);
Json to_json(const UnmapArgs& args);
Json map_result(const std::string& device);
/// Add what only one daemon knows to the object this returns.
Json to_json(const DeviceEntry& entry);
/// `devices`: an array of what to_json(DeviceEntry) made.
Json list_result(Json devices);

/// Readers for the daemons. EINVAL names the member that is missing or of the wrong type.
Result<std::vector<std::string>> read_map_args(const Json& args);
Result<UnmapArgs> read_unmap_args(const Json& args);

/// Readers for the commands. EPROTO: the daemon does not keep the contract.
Result<std::string> read_map_result(const Json& result);
/// Checks that `result` is what `list` has to answer.
Status check_list_result(const Json& result);

}  // namespace rnbd::control
