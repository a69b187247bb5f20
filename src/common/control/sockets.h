// SPDX-License-Identifier: Apache-2.0
// Where the daemons listen for their commands unless told otherwise (--control).
#pragma once

namespace rnbd::control {

inline constexpr const char* kClientSocket = "/run/rnbd/client.sock";
inline constexpr const char* kServerSocket = "/run/rnbd/server.sock";

}  // namespace rnbd::control
