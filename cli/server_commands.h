// SPDX-License-Identifier: Apache-2.0
// The verbs of rnbd-server.
#pragma once

#include <functional>

#include "cli/reference.h"
#include "server/daemon.h"

namespace rnbd::cli {

/// Does what the arguments say and returns the exit code. `run_daemon` is what `daemon` starts;
/// main passes it, so that the verbs stand on the control socket alone.
int run_server(int argc, const char* const* argv,
               const std::function<int(const server::DaemonOptions&)>& run_daemon);

/// What run_server understands.
ProgramReference server_reference();

}  // namespace rnbd::cli
