// SPDX-License-Identifier: Apache-2.0
// The client's metrics for Prometheus. Pure; docs/monitoring says the same as metric_definitions().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/control/verbs.h"
#include "common/metrics/metrics_text.h"

namespace rnbd::client {

/// What the client is doing and has done.
struct Observation {
  struct Session {
    std::string name;
    std::uint64_t pinned_bytes = 0;
    std::uint64_t reconnects = 0;
  };
  std::vector<control::DeviceStats> stats;
  std::vector<control::DeviceEntry> devices;
  std::vector<control::PathEntry> paths;
  std::vector<Session> sessions;
};

std::span<const metrics::Definition> metric_definitions();

/// In Prometheus' text format.
std::string metrics_page(const Observation& seen);

}  // namespace rnbd::client
