// SPDX-License-Identifier: Apache-2.0
// Where a daemon may tell its metrics: on this host alone, since it tells them to everybody who
// asks. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace rnbd {

struct MetricsAddress {
  std::string path;        ///< of a Unix socket; empty: TCP
  std::string ip;          ///< of the loopback: "127.0.0.1", "::1"
  std::uint16_t port = 0;  ///< of TCP
};

/// "127.0.0.1:PORT", "[::1]:PORT" or "unix:/PATH". Errors: EINVAL with a message that begins with
/// "metrics_listen"; addresses that others can reach are refused.
Result<MetricsAddress> parse_metrics_address(std::string_view text);

/// The same, and nothing at all, which is off.
Status check_metrics_listen(std::string_view text);

}  // namespace rnbd
