// SPDX-License-Identifier: Apache-2.0
// What `tree`, `show` and `check` make of a daemon's answers to "list" and "paths". Pure.
#pragma once

#include <string>

#include "common/control/messages.h"

namespace rnbd::cli {

/// Sessions, and below each its paths and its devices.
std::string tree_text(const control::Json& list, const control::Json& paths);

/// The device, session or path that is called so: its fields, and in a session's what belongs to
/// it. A device by its node, by SESSION/DEVICE or, if only one has it, by its mapping path. Errors:
/// ENOENT, EINVAL (several).
Result<control::Json> find_object(const control::Json& list, const control::Json& paths,
                                  const std::string& name);

/// {"devices":[…],"paths":[…]}: of the device, session or path that is called so, or of everything
/// if `name` is empty. Errors: those of find_object().
Result<control::Json> parts_of(const control::Json& list, const control::Json& paths,
                               const std::string& name);

/// {"schema_version":1,"sessions":[{"session","policy","devices","in_flight","paths":[…]},…]}
control::Json client_sessions(const control::Json& list, const control::Json& paths);
/// The same of a server's answers to "list" and "sessions": a device or a session.
Result<control::Json> find_server_object(const control::Json& list, const control::Json& sessions,
                                         const std::string& name);

/// A field a line, "name: value"; what is inside of others indented.
std::string show_text(const control::Json& object);

/// How a mapping is, as monitoring plugins say it: these are exit codes.
enum class Health : int { Healthy = 0, Degraded = 1, Failed = 2, NotMapped = 3 };

struct CheckResult {
  Health health = Health::Healthy;
  std::string text;  ///< one line
};

/// Of the device, session or path that is called so, or of everything if `name` is empty. Degraded:
/// a path is not connected. Failed: I/O waits or fails.
CheckResult check(const control::Json& list, const control::Json& paths, const std::string& name);

}  // namespace rnbd::cli
