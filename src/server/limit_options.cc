// SPDX-License-Identifier: Apache-2.0
#include "server/limit_options.h"

#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace rnbd::server {

Status check_limit(const LimitOption& option, std::int64_t value) {
  if (value >= option.least && value <= kMostOfALimit) return {};
  return fail(EINVAL, fmt::format("{} must be {} to {}, not {}", option.key, option.least,
                                  kMostOfALimit, value));
}

Status check_limits_hold(const LimitOptions& options, std::uint64_t session_bytes) {
  for (const auto& [key, mib] :
       {std::pair("max_memory_mib", options.memory_mib),
        std::pair("max_memory_mib_per_client", options.memory_mib_per_client)}) {
    if (mib == 0 || std::uint64_t{mib} << 20 >= session_bytes) continue;
    return fail(EINVAL,
                fmt::format("{} {} is too small for one session, which pins {} MiB with this "
                            "sess_queue_depth and max_io_size",
                            key, mib, (session_bytes + (1 << 20) - 1) >> 20));
  }
  return {};
}

}  // namespace rnbd::server
