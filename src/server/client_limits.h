// SPDX-License-Identifier: Apache-2.0
// From the daemon's options to what clients may hold on this host. Pure; any thread.
#pragma once

#include <cstdint>

#include "server/daemon.h"
#include "transport/rtrs/client_limits.h"

namespace rnbd::server {

/// What the options mean where the host has `host_bytes` of memory.
rtrs::ClientLimits client_limits(const DaemonOptions& daemon, std::uint64_t host_bytes);

}  // namespace rnbd::server
