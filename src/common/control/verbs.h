// SPDX-License-Identifier: Apache-2.0
// What the verbs of the control socket take and answer: the contract between the commands and the
// daemons. Pure functions, any thread. Each message has its builder and its reader here, so that
// neither side spells a field's name.
//
//   verb    daemon   args                                   result
//   map     client   {"words":["server=ip:…",…]}            {"device":"/dev/nbd0"}
//   unmap   client   {"device":"/dev/nbd0","force":false}   {}
//   list    both     {}                                     {"schema_version":1,"devices":[{…},…]}
//   paths   client   {"session":"blya"}, or all             {"schema_version":1,"paths":[{…},…]}
//   path    client   {"action":"remove","session":"blya",   {}
//                     "path":"ip:10.0.0.1","force":false}
//   stats   both     {}                                     as list: a DeviceStats each
//   resize  client   {"device":"/dev/nbd0"}                 {"device":"/dev/nbd0","size_bytes":…}
//   upgrade client   {"journals":1}                         {}
//   sessions server  {}                                     {"schema_version":1,"sessions":[{…},…]}
//   session server   {"action":"close","session":"blya",    {}
//                     "device":"vol1"}, or all its devices
//   revalidate server {"device":"/dev/vg/vol1"}, or all     as list: a ResizedEntry each
//   events  both     {"daemon":"…","after":17}, or nothing  EventLog (event_log.h)
//   remap   client   {"device":"/dev/nbd0"}                 {}
//   set     client   {"session":"blya","words":["…",…],     {}
//                     "temporary":false}
//   discover client  {"words":["server=ip:…",…]}            {"schema_version":1,"servers":[{…},…]}
//
// A device of `list` has the fields of DeviceEntry, in that order, and `paths`, an array: a
// client's are PathEntry. Daemons may add more, which `list --json` passes on. Sizes are bytes.
// Nothing mapped is an empty array.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/control/messages.h"
#include "common/latency.h"

namespace rnbd::control {

inline constexpr const char* kMapVerb = "map";
inline constexpr const char* kUnmapVerb = "unmap";
inline constexpr const char* kListVerb = "list";
inline constexpr const char* kPathsVerb = "paths";
inline constexpr const char* kPathVerb = "path";
inline constexpr const char* kStatsVerb = "stats";
inline constexpr const char* kResizeVerb = "resize";
inline constexpr const char* kSessionsVerb = "sessions";
inline constexpr const char* kSessionVerb = "session";
inline constexpr const char* kRevalidateVerb = "revalidate";
inline constexpr const char* kEventsVerb = "events";
inline constexpr const char* kRemapVerb = "remap";
inline constexpr const char* kSetVerb = "set";
inline constexpr const char* kDiscoverVerb = "discover";
inline constexpr const char* kUpgradeVerb = "upgrade";

/// Of the journals by which one client daemon goes on where another one ended. Raise it with each
/// change of what is in them.
inline constexpr std::uint32_t kJournalVersion = 4;

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
  std::string state;         ///< "open", "closed"; client: also "queueing", "failing"; server: also
                             ///< "draining"
  std::string access_mode;   ///< "ro", "rw" or "migration"
  std::string io_mode;       ///< "blockio" or "fileio"
  std::uint64_t size_bytes = 0;
  std::string client;  ///< the client's addresses; server daemon only, else left out

  // Client daemon only.
  std::optional<std::uint64_t> state_seconds;  ///< for how long it has been in its state
  std::uint64_t in_flight = 0;                 ///< requests of the kernel's, not answered
  std::uint64_t server_size_bytes = 0;         ///< as last heard; size_bytes is the kernel's
  std::string last_error;
};

/// One client's session, at its server; in JSON it has `paths` too.
struct SessionEntry {
  std::string session;
  std::string client;              ///< its addresses
  std::uint64_t devices = 0;       ///< open
  std::uint64_t pinned_bytes = 0;  ///< of this host's memory
  std::string state = "open";      ///< or "draining"
};

/// What can be done with a server's session.
inline constexpr std::array<std::string_view, 1> kSessionActions = {"close"};

struct SessionArgs {
  std::string action;  ///< one of kSessionActions
  std::string session;
  std::string device;  ///< its mapping path or its disk; empty: the session as a whole
};

/// A stage of the requests' way, and how long they took for it.
struct StageStats {
  std::string stage;
  IoLatencies latencies;
};

/// What has been done with a device since it was mapped or opened; of a client's, by its present
/// daemon. In JSON the stages are {"queue":{"read":…,"write":…,"other":…},…}, and each latency is
/// {"count","sum_ns","buckets"}, where buckets[i] is how many took less than 2^i microseconds and
/// not less than 2^(i-1); empty ones at the end are left out.
struct DeviceStats {
  std::string device;
  std::string session;
  std::string mapping_path;
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t writes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t discards = 0;
  std::uint64_t write_zeroes = 0;
  std::uint64_t errors = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t permit_waits = 0;  ///< client: how often there was no free chunk
  IoLatencies latencies;           ///< client: as its kernel sees them; server: the disk's
  /// Client: "queue", until a request was handed to a path, and "wire", from then to its answer.
  /// Server: "server", from a request's arrival to its answer, and "disk", of that the disk's.
  std::vector<StageStats> stages;
  std::string life;  ///< one for each time a device was mapped or opened; not told
};

/// A disk that a client has open, and that has another size now.
struct ResizedEntry {
  std::string device;  ///< on the server
  std::string session;
  std::uint64_t was_bytes = 0;
  std::uint64_t size_bytes = 0;
};

/// Up to where somebody has followed a daemon's events.
struct EventsSeen {
  std::string daemon;       ///< which daemon's; empty: none have been seen
  std::uint64_t after = 0;  ///< the number of the last one
};

/// What a session, or the devices of one, shall be from now on: words of a mapping.
struct SetArgs {
  std::string session;  ///< "all": each
  std::vector<std::string> words;
  bool temporary = false;  ///< mappings that persist come back as they were before
};

/// What one address of a server has said.
struct ServerEntry {
  std::string path;                  ///< "[src@]dst", as it was asked for
  std::string state;                 ///< "reachable" or "unreachable"
  std::string local_address;         ///< this host's
  std::uint64_t queue_depth = 0;     ///< requests of a session at once
  std::uint64_t max_io_bytes = 0;    ///< of one request
  std::uint64_t answered_in_us = 0;  ///< until the session was up
  std::string last_error;            ///< why it is unreachable
};

/// What can be done with a path.
inline constexpr std::array<std::string_view, 6> kPathActions = {
    "add", "remove", "reconnect", "disconnect", "drain", "policy"};

struct PathArgs {
  std::string action;  ///< one of kPathActions
  std::string session;
  std::string path;  ///< "[src@]dst"; for "policy" its name
  std::uint16_t port = 1234;
  bool force = false;
};

/// What a path has counted since somebody said so (stats_reset.h).
struct PathSinceReset {
  std::uint64_t seconds = 0;
  std::uint64_t failovers = 0;
  std::uint64_t reconnects = 0;
};

/// One path of a client's session.
struct PathEntry {
  std::string session;
  std::string path;   ///< "[src@]dst", as it was asked for
  std::string state;  ///< "connected", "connecting", "waiting", "closing", "fencing", "draining" or
                      ///< "disconnected"
  std::uint64_t state_seconds = 0;
  std::string policy;         ///< the session's
  std::string local_address;  ///< in use now, or last
  std::string peer_address;
  std::uint64_t latency_us = 0;  ///< of the last heartbeat; 0: not measured
  std::uint64_t in_flight = 0;
  std::uint64_t failovers = 0;  ///< requests that had to be sent again
  std::uint64_t reconnects = 0;
  std::uint64_t failed_attempts = 0;  ///< in a row
  std::string last_error;
  std::optional<PathSinceReset> since_reset;
};

Json map_args(std::span<const std::string> words);
Json to_json(const UnmapArgs& args);
Json to_json(const DeviceStats& stats);
Json to_json(const SessionEntry& entry);
Json to_json(const SessionArgs& args);
/// `sessions`: an array of what to_json(SessionEntry) made.
Json sessions_result(Json sessions);
Json resize_args(const std::string& device);
Json resize_result(const std::string& device, std::uint64_t size_bytes);
/// Empty: all.
Json revalidate_args(const std::string& device);
Json to_json(const ResizedEntry& entry);
Json to_json(const EventsSeen& seen);
Json remap_args(const std::string& device);
Json to_json(const SetArgs& args);
Json to_json(const ServerEntry& entry);
/// `servers`: an array of what to_json(ServerEntry) made.
Json servers_result(Json servers);
Json upgrade_args();
Json map_result(const std::string& device);
/// Add what only one daemon knows to the object this returns.
Json to_json(const DeviceEntry& entry);
/// `devices`: an array of what to_json(DeviceEntry) made.
Json list_result(Json devices);
Json to_json(const PathArgs& args);
Json to_json(const PathEntry& entry);
/// `paths`: an array of what to_json(PathEntry) made.
Json paths_result(Json paths);

/// Readers for the daemons. EINVAL names the member that is missing or of the wrong type.
Result<std::vector<std::string>> read_map_args(const Json& args);
Result<UnmapArgs> read_unmap_args(const Json& args);
Result<PathArgs> read_path_args(const Json& args);
Result<std::string> read_resize_args(const Json& args);
Result<std::string> read_revalidate_args(const Json& args);
Result<SessionArgs> read_session_args(const Json& args);
Result<EventsSeen> read_events_args(const Json& args);
Result<std::string> read_remap_args(const Json& args);
Result<SetArgs> read_set_args(const Json& args);
/// The session asked for; empty: all.
Result<std::string> read_paths_args(const Json& args);
/// The version of the journals that who asks can read.
Result<std::uint32_t> read_upgrade_args(const Json& args);

/// Readers for the commands. EPROTO: the daemon does not keep the contract.
Result<std::string> read_map_result(const Json& result);
Result<std::uint64_t> read_resize_result(const Json& result);
/// Checks that `result` is what `list` has to answer.
Status check_list_result(const Json& result);
Status check_paths_result(const Json& result);
Status check_sessions_result(const Json& result);
Status check_servers_result(const Json& result);
Status check_events_result(const Json& result);

}  // namespace rnbd::control
