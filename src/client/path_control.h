// SPDX-License-Identifier: Apache-2.0
// What administrators see of a session's paths and do with them (rnbd-client path …). Control
// thread.
#pragma once

#include <cstdint>

#include "client/map_words.h"
#include "client/random.h"
#include "client/rnbd_session.h"
#include "common/control/server.h"
#include "common/control/verbs.h"

namespace rnbd::client {

/// A path under a name of its own.
rtrs::PathSpec make_path(const PathSpec& words, std::uint16_t port, const RandomSource& random);

/// Appends a PathEntry for each of the session's paths.
void list_paths(RnbdSession& session, control::Json& entries);

/// Does it, and replies when it is done. Errors: EINVAL (words), ENOENT (no such path), EEXIST,
/// ENOSPC, EBUSY (the last path that is connected goes with `force` only), and what came of an
/// attempt to connect.
void change_path(RnbdSession& session, const control::PathArgs& args, const RandomSource& random,
                 control::Reply reply);

}  // namespace rnbd::client
