// SPDX-License-Identifier: Apache-2.0
// Fields of what a daemon has answered, which may lack them or have others in their place. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "common/control/messages.h"

namespace rnbd::cli {

/// Empty if there is no such text.
inline std::string text_of(const control::Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// 0 if there is no such number.
inline std::uint64_t number_of(const control::Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

}  // namespace rnbd::cli
