// SPDX-License-Identifier: Apache-2.0
// Who may ask a daemon for what. Whether somebody may ask at all is for the socket's mode, 0660, to
// say: root and the group `rnbd`. Of them, root and the daemon's own user may change things; the
// others may look. Any thread.
#pragma once

#include <string_view>

#include <sys/types.h>

#include "common/result.h"

namespace rnbd::control {

/// Members of it may ask what changes nothing. The packages create it.
inline constexpr const char* kReaders = "rnbd";

/// The process at the other end of a Unix socket, as it was when it connected.
struct Peer {
  uid_t user = 0;
  pid_t process = 0;
};

/// Errors: those of getsockopt(2).
Result<Peer> peer_of(int socket);

/// Root, and the user this process runs as.
[[nodiscard]] bool may_change(const Peer& peer);

/// Whether a verb changes nothing. A verb that is not known here does.
[[nodiscard]] bool only_reads(std::string_view verb);

/// Whether `peer` may ask for `verb`. EACCES, with advice, if it may not.
Status check_access(const Peer& peer, std::string_view verb);

}  // namespace rnbd::control
