// SPDX-License-Identifier: Apache-2.0
// What `events` prints of a daemon's answers to "events". Pure.
#pragma once

#include <string>

#include "common/control/messages.h"

namespace rnbd::cli {

/// "22:10:01.123  path    blya ip:10.0.0.1  lost: ETIMEDOUT: …", in local time.
std::string event_text(const control::Json& event);

/// What there is, as lines of the same form.
std::string snapshot_text(const control::Json& snapshot);

/// One line of JSON each; the snapshot's "event" is "snapshot".
std::string event_line(const control::Json& event);
std::string snapshot_line(const control::Json& snapshot);

}  // namespace rnbd::cli
