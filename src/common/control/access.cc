// SPDX-License-Identifier: Apache-2.0
#include "common/control/access.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <unistd.h>

#include <fmt/format.h>
#include <sys/socket.h>

#include "common/control/admin_verbs.h"
#include "common/control/verbs.h"

namespace rnbd::control {
namespace {

/// What is not here takes root: a verb that somebody forgets to add is closed, not open.
constexpr std::array<std::string_view, 6> kReadingVerbs = {
    kListVerb, kPathsVerb, kStatsVerb, kEventsVerb, kSessionsVerb, kExportsVerb};

}  // namespace

Result<Peer> peer_of(int socket) {
  ucred found{};
  socklen_t size = sizeof(found);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &found, &size) != 0) {
    return fail(errno, "cannot tell who is asking");
  }
  return Peer{.user = found.uid, .process = found.pid};
}

bool only_reads(std::string_view verb) {
  return std::ranges::find(kReadingVerbs, verb) != kReadingVerbs.end();
}

bool may_change(const Peer& peer) { return peer.user == 0 || peer.user == ::geteuid(); }

Status check_access(const Peer& peer, std::string_view verb) {
  if (may_change(peer) || only_reads(verb)) return {};
  return fail(EACCES,
              fmt::format("user {} may look, but not change anything\nrun it as root", peer.user));
}

}  // namespace rnbd::control
