// SPDX-License-Identifier: Apache-2.0
#include "server/client_limits.h"

#include "server/daemon_options.h"

namespace rnbd::server {
namespace {

constexpr std::uint64_t bytes_of(std::uint32_t mib) { return std::uint64_t{mib} << 20; }

}  // namespace

rtrs::ClientLimits client_limits(const DaemonOptions& daemon, std::uint64_t host_bytes) {
  const LimitOptions& options = daemon.limits;
  const std::uint64_t all = options.memory_mib == 0 ? host_bytes / 2 : bytes_of(options.memory_mib);
  rtrs::ClientLimits limits = rtrs::ClientLimits::of_memory(all, session_memory(daemon));
  limits.all.sessions = options.sessions;
  limits.all.paths = options.paths;
  limits.all.connections = options.connections;
  limits.client.sessions = options.sessions_per_client;
  limits.client.paths = options.paths_per_client;
  limits.client.connections = options.connections_per_client;
  if (options.memory_mib_per_client != 0) {
    limits.client.memory = bytes_of(options.memory_mib_per_client);
  }
  return limits;
}

}  // namespace rnbd::server
