// SPDX-License-Identifier: Apache-2.0
// The server's metrics for Prometheus. Pure; docs/monitoring says the same as metric_definitions().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/control/verbs.h"
#include "common/metrics/metrics_text.h"

namespace rnbd::server {

/// What the server is doing and has done.
struct Observation {
  struct Device {
    std::string device;  ///< on this host
    std::string session;
    std::string mapping_path;
    std::string_view state;  ///< one of kExportStateNames
    std::uint64_t size_bytes = 0;
  };
  struct Session {
    std::string name;
    std::uint64_t devices = 0;  ///< open
    std::uint64_t pinned_bytes = 0;
  };
  struct Path {
    std::string session;
    std::string peer_address;
    std::string local_address;
    std::string_view state;  ///< one of kPathStateNames
    std::uint64_t in_flight = 0;
  };
  std::vector<control::DeviceStats> stats;
  std::vector<Device> devices;
  std::vector<Session> sessions;
  std::vector<Path> paths;
};

std::span<const metrics::Definition> metric_definitions();

/// In Prometheus' text format.
std::string metrics_page(const Observation& seen);

}  // namespace rnbd::server
