// SPDX-License-Identifier: Apache-2.0
// What clients may hold at one time, each by itself and all together, so that one of them cannot
// have everything. A client is the address that it connects from: names it gives itself as it
// likes. Pure; any thread.
#pragma once

#include <cstdint>

#include "common/limits.h"
#include "common/result.h"

namespace rnbd::rtrs {

/// What somebody holds, or may hold.
struct Share {
  std::uint64_t sessions = 0;  ///< a client's are those that it has founded
  std::uint64_t paths = 0;
  std::uint64_t connections = 0;  ///< as many as each path has said that it will have
  std::uint64_t memory = 0;       ///< bytes of the sessions' chunks
};

struct ClientLimits {
  Share all;     ///< of all clients together
  Share client;  ///< of each one

  /// The defaults where sessions may pin `bytes` together. The last quarter is not for those who
  /// have the rest, but a client always gets `session_bytes`, which is what one session takes.
  static constexpr ClientLimits of_memory(std::uint64_t bytes, std::uint64_t session_bytes = 0) {
    const std::uint64_t most = bytes / 4 * 3;
    return {.all = {.sessions = limits::kMaxSessions,
                    .paths = limits::kMaxPaths,
                    .connections = limits::kMaxConnectionsOfAll,
                    .memory = bytes},
            .client = {.sessions = limits::kMaxClientSessions,
                       .paths = limits::kMaxPathsOfClient,
                       .connections = limits::kMaxConnectionsOfClient,
                       .memory = most < session_bytes ? session_bytes : most}};
  }
};

/// May a client that holds `client` have `asked` too, where all clients together hold `all`?
/// Errors: ENOMEM, which names the limit.
Status check_limits(const ClientLimits& limits, const Share& asked, const Share& all,
                    const Share& client);

}  // namespace rnbd::rtrs
