// SPDX-License-Identifier: Apache-2.0
// Taking a path for a control socket: made safe against daemons that left one behind, that still
// live, and that start at the same time.
#pragma once

#include <string>

#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::control {

/// A listening, non-blocking Unix stream socket at `path`, mode 0660, of the group `rnbd`
/// (access.h) if there is one and this process may give it a file. The directory is created (0755)
/// if only it is missing. A socket at `path` is replaced if nobody answers on it. A file
/// `path`.lock stays behind: it keeps two daemons that start together from both replacing it.
/// Errors: EADDRINUSE (a daemon answers there), EEXIST (something that is no socket is there),
/// ENAMETOOLONG, and those of the system calls.
Result<UniqueFd> listen_at(const std::string& path);

/// A connected, blocking Unix stream socket. `seconds` bounds the wait for a place in the daemon's
/// queue (EAGAIN when it passes) and each send. Errors: ENAMETOOLONG and those of connect(2).
Result<UniqueFd> connect_to(const std::string& path, int seconds);

}  // namespace rnbd::control
