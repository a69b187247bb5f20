// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/client_limits.h"

#include <array>
#include <cerrno>
#include <string_view>

#include <fmt/format.h>

namespace rnbd::rtrs {
namespace {

/// One of the things that are limited, and what the option is called that says how much of it.
struct Kind {
  std::uint64_t Share::* amount;
  std::string_view unit;
  std::string_view option;
  unsigned shift;  ///< from the amount to the unit
};

constexpr std::array kKinds = {
    Kind{&Share::sessions, "sessions", "max_sessions", 0},
    Kind{&Share::paths, "paths", "max_paths", 0},
    Kind{&Share::connections, "connections", "max_connections", 0},
    Kind{&Share::memory, "MiB of memory", "max_memory_mib", 20},
};

Status check_share(const Share& limit, const Share& asked, const Share& held, std::string_view who,
                   std::string_view suffix) {
  for (const Kind& kind : kKinds) {
    const std::uint64_t wanted = held.*kind.amount + asked.*kind.amount;
    if (asked.*kind.amount == 0 || wanted <= limit.*kind.amount) continue;
    return fail(ENOMEM,
                fmt::format("{} would have {} {}; {}{} is {}", who, wanted >> kind.shift, kind.unit,
                            kind.option, suffix, limit.*kind.amount >> kind.shift));
  }
  return {};
}

}  // namespace

Status check_limits(const ClientLimits& limits, const Share& asked, const Share& all,
                    const Share& client) {
  if (Status own = check_share(limits.client, asked, client, "this client", "_per_client"); !own) {
    return own;
  }
  return check_share(limits.all, asked, all, "all clients", "");
}

}  // namespace rnbd::rtrs
