// SPDX-License-Identifier: Apache-2.0
// What `rnbd-server export add` has added for good, as the state file has it. Pure; any thread.
#pragma once

#include <vector>

#include "common/control/messages.h"
#include "server/named_exports.h"

namespace rnbd::server {

control::Json state_of(const std::vector<NamedExport>& added);

/// Throws what the JSON library throws, and invalid_argument.
std::vector<NamedExport> exports_of_state(const control::Json& state);

}  // namespace rnbd::server
