// SPDX-License-Identifier: Apache-2.0
// Text for errors (result.h).
#include <cstring>

#include <fmt/format.h>

#include "common/result.h"

namespace rnbd {

std::string errno_name(int code) {
  const char* name = strerrorname_np(code);
  return name != nullptr ? std::string(name) : fmt::format("E{}", code);
}

std::string describe(const Error& error) {
  const char* text = strerrordesc_np(error.code);
  if (text == nullptr) return fmt::format("{} ({})", error.message, errno_name(error.code));
  return fmt::format("{}: {} ({})", error.message, text, errno_name(error.code));
}

}  // namespace rnbd
