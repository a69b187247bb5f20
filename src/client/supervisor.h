// SPDX-License-Identifier: Apache-2.0
// The keeper of a client daemon where there is no systemd: a process that starts the daemon, keeps
// the descriptors it asks to keep, and starts it again with them when it dies. Its one thread is
// the main thread.
#pragma once

#include "client/daemon.h"

namespace rnbd::client {

/// Runs until the daemon ends by itself, or on SIGINT or SIGTERM, which are passed on, as are
/// SIGUSR2
/// ("leave your devices to the next process") and SIGHUP ("read your configuration again"). Returns
/// the daemon's exit code.
int supervise(const DaemonOptions& options);

}  // namespace rnbd::client
