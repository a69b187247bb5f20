// SPDX-License-Identifier: Apache-2.0
// The server daemon's options that limit what clients may hold, as one table for the configuration
// file, the command line and the manual. Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "common/limits.h"
#include "common/result.h"

namespace rnbd::server {

struct LimitOptions {
  std::uint32_t sessions = limits::kMaxSessions;
  std::uint32_t sessions_per_client = limits::kMaxClientSessions;
  std::uint32_t paths = limits::kMaxPaths;
  std::uint32_t paths_per_client = limits::kMaxPathsOfClient;
  std::uint32_t connections = limits::kMaxConnectionsOfAll;
  std::uint32_t connections_per_client = limits::kMaxConnectionsOfClient;
  std::uint32_t memory_mib = 0;             ///< 0: half of the host's
  std::uint32_t memory_mib_per_client = 0;  ///< 0: three quarters of memory_mib
};

struct LimitOption {
  std::string_view key;     ///< in the configuration
  std::string_view option;  ///< on the command line
  std::uint32_t LimitOptions::* field;
  std::int64_t least;
  const char* help;
};

inline constexpr std::int64_t kMostOfALimit = 1 << 24;

inline constexpr std::array kLimitOptions = {
    LimitOption{"max_sessions", "--max-sessions", &LimitOptions::sessions, 1,
                "Sessions of all clients together [256]"},
    LimitOption{"max_sessions_per_client", "--max-sessions-per-client",
                &LimitOptions::sessions_per_client, 1, "Sessions of one client's address [64]"},
    LimitOption{"max_paths", "--max-paths", &LimitOptions::paths, 1,
                "Paths of all clients together [4096]"},
    LimitOption{"max_paths_per_client", "--max-paths-per-client", &LimitOptions::paths_per_client,
                1, "Paths of one client's address [1024]"},
    LimitOption{"max_connections", "--max-connections", &LimitOptions::connections, 1,
                "Connections of all clients together [65536]"},
    LimitOption{"max_connections_per_client", "--max-connections-per-client",
                &LimitOptions::connections_per_client, 1,
                "Connections of one client's address [16384]"},
    LimitOption{"max_memory_mib", "--max-memory-mib", &LimitOptions::memory_mib, 0,
                "Memory that all sessions pin together; 0: half of the host's [0]"},
    LimitOption{"max_memory_mib_per_client", "--max-memory-mib-per-client",
                &LimitOptions::memory_mib_per_client, 0,
                "Memory that one client's sessions pin; 0: three quarters of all [0]"},
};

/// EINVAL, with a message that begins with the option's name.
Status check_limit(const LimitOption& option, std::int64_t value);

/// Whether a session of `session_bytes` can exist. Errors: EINVAL.
Status check_limits_hold(const LimitOptions& options, std::uint64_t session_bytes);

}  // namespace rnbd::server
