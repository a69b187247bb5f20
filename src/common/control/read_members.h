// SPDX-License-Identifier: Apache-2.0
// Members of a message, read one by one. Pure; for the files that know the messages.
#pragma once

#include <algorithm>
#include <cerrno>
#include <string>

#include "common/control/messages.h"

namespace rnbd::control {

inline Status read_text(const Json& args, const char* name, std::string& out) {
  const auto found = args.find(name);
  if (found == args.end() || !found->is_string()) {
    return fail(EINVAL, std::string("a string '") + name + "' is missing");
  }
  out = found->get<std::string>();
  return {};
}

/// `out` stays as it is if there is none.
inline Status read_optional_text(const Json& args, const char* name, std::string& out) {
  return args.contains(name) ? read_text(args, name, out) : Status{};
}

inline Status read_flag(const Json& args, const char* name, bool& out) {
  const auto found = args.find(name);
  if (found == args.end()) return {};
  if (!found->is_boolean()) return fail(EINVAL, std::string("'") + name + "' is true or false");
  out = found->get<bool>();
  return {};
}

/// An array of objects called `name`, or EPROTO.
inline Status check_array(const Json& result, const char* name) {
  const auto found = result.is_object() ? result.find(name) : result.end();
  const bool list = found != result.end() && found->is_array() &&
                    std::ranges::all_of(*found, [](const Json& one) { return one.is_object(); });
  if (list) return {};
  return fail(EPROTO, std::string("the daemon's list holds no array of ") + name);
}

}  // namespace rnbd::control
