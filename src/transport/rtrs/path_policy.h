// SPDX-License-Identifier: Apache-2.0
// Which path a request takes, if there are several. One picker a queue, on that queue's worker; it
// looks at what its own worker has in flight on each path, so that workers share nothing: each one
// balances its own requests, and so all together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace rnbd::rtrs {

/// As the kernel's rtrs client has them (mpath_policy), but for what is far slower.
enum class PathPolicy : std::uint8_t {
  RoundRobin,   ///< the next one
  MinInflight,  ///< the one with the fewest requests on their way, and one more if it is far slower
  MinLatency,   ///< the one whose last heartbeat came back soonest; one never measured wins
};

/// A path as a picker sees it.
struct PathLoad {
  bool usable = false;
  std::uint32_t in_flight = 0;
  std::uint64_t latency_ns = 0;  ///< 0: never measured
};

class PathPicker {
 public:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  /// The index of a usable path, kNone if there is none. Among equals the next one after the last
  /// that was picked, so that a queue with little to do uses all of them too.
  std::size_t pick(PathPolicy policy, std::span<const PathLoad> paths) {
    std::size_t best = kNone;
    std::uint64_t lowest = 0;
    const std::uint64_t slow = policy == PathPolicy::MinInflight ? far_slower(paths) : 0;
    for (std::size_t step = 1; step <= paths.size(); ++step) {
      const std::size_t at = (last_ + step) % paths.size();
      if (!paths[at].usable) continue;
      const std::uint64_t cost = cost_of(policy, paths[at], slow);
      if (best != kNone && cost >= lowest) continue;
      best = at;
      lowest = cost;
    }
    if (best != kNone) last_ = best;
    return best;
  }

 private:
  /// As a part of the quickest path's latency, and in ns: two paths that are alike do not differ as
  /// much, though one's heartbeats have to wake somebody and the other's do not.
  static constexpr std::uint64_t kFarSlower = 4;
  static constexpr std::uint64_t kFarSlowerByNs = 1'000'000;

  /// A latency above it is that of a path which one request at a time, finding nothing in flight on
  /// any, should not take.
  static std::uint64_t far_slower(std::span<const PathLoad> paths) {
    std::uint64_t quickest = 0;
    for (const PathLoad& path : paths) {
      if (!path.usable || path.latency_ns == 0) continue;
      if (quickest == 0 || path.latency_ns < quickest) quickest = path.latency_ns;
    }
    return std::max(kFarSlower * quickest, quickest + kFarSlowerByNs);
  }

  static std::uint64_t cost_of(PathPolicy policy, const PathLoad& path, std::uint64_t slow) {
    switch (policy) {
      case PathPolicy::RoundRobin:
        return 0;
      case PathPolicy::MinInflight:
        return path.in_flight + (path.latency_ns > slow ? 1U : 0U);
      case PathPolicy::MinLatency:
        return path.latency_ns;
    }
    return 0;
  }

  std::size_t last_ = 0;
};

}  // namespace rnbd::rtrs
