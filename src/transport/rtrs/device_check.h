// SPDX-License-Identifier: Apache-2.0
// Whether a server can keep its promise to its clients on the adapters of its host. Asked once, at
// the start; any thread.
#pragma once

#include <cerrno>
#include <span>

#include <fmt/format.h>

#include "common/result.h"
#include "transport/fabric.h"
#include "transport/rtrs/handshake.h"

namespace rnbd::rtrs {

/// Errors: EOPNOTSUPP, naming the first adapter that cannot renew keys where `parameters` promise
/// new ones (always_invalidate).
inline Status check_devices(const ServerParameters& parameters,
                            std::span<const transport::Capabilities> devices) {
  if (!parameters.new_key) return {};
  for (const transport::Capabilities& device : devices) {
    if (device.windows) continue;
    return fail(EOPNOTSUPP,
                fmt::format("{} has no type 1 memory windows, which always_invalidate needs: "
                            "clients could write into the server's memory at any time; "
                            "--always-invalidate no serves them all the same",
                            device.device));
  }
  return {};
}

}  // namespace rnbd::rtrs
