// SPDX-License-Identifier: Apache-2.0
// How this host is called; sessions are named after it.
#pragma once

#include <string>

namespace rnbd {

/// "localhost" if the kernel does not say. Any thread.
std::string host_name();

}  // namespace rnbd
