// SPDX-License-Identifier: Apache-2.0
// What administrators see of a session's paths and do with them (rnbd-client path …). Control
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client/map_words.h"
#include "client/random.h"
#include "client/rnbd_session.h"
#include "common/control/server.h"
#include "common/control/verbs.h"

namespace rnbd::client {

/// "[src@]dst", as users write it.
std::string text_of(const rtrs::Route& route);

/// A reply for whoever waits for a status.
std::move_only_function<void(Status)> answer(control::Reply reply);

/// A path under a name of its own; `port`: if it does not say another.
rtrs::PathSpec make_path(const PathSpec& words, std::uint16_t port, const RandomSource& random);

/// The session's paths as words would say them, each with its port.
std::vector<PathSpec> path_specs(const rtrs::SessionSettings& session);

/// What can be told of the session's paths.
std::vector<control::PathEntry> path_entries(RnbdSession& session);

/// Appends a PathEntry for each of the session's paths.
void list_paths(RnbdSession& session, control::Json& entries);

/// What followers are to be told of a path whose state has changed; nothing if they know. `told`:
/// the state in the path's last event, empty before the first.
std::optional<control::Json> path_event(const RnbdSession& session, const rtrs::PathKeeper& path,
                                        std::string& told);

/// Has its counters shown from now on. Errors: EINVAL (words), ENOENT (no such path).
Status reset_path(RnbdSession& session, const std::string& path);

/// Does what is asked for with one path, and replies when it is done. Errors: EINVAL (words),
/// ENOENT (no such path), EEXIST, ENOSPC, EBUSY (the last path that is connected goes with `force`
/// only), and what came of an attempt to connect.
void change_path(RnbdSession& session, const control::PathArgs& args, const RandomSource& random,
                 control::Reply reply);

}  // namespace rnbd::client
