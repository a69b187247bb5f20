// SPDX-License-Identifier: Apache-2.0
#include "common/printable.h"

#include <fmt/format.h>

namespace rnbd {
namespace {

unsigned char byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    // U+0080 to U+009F, which terminals obey too, are C2 80 to C2 9F in UTF-8.
    const bool c1 = byte_at(text, i) == 0xc2 && i + 1 < text.size() && byte_at(text, i + 1) < 0xa0;
    if (c1) {
      ++i;
      out += fmt::format("\\x{:02x}", byte_at(text, i));
    } else if (byte_at(text, i) < 0x20 || byte_at(text, i) == 0x7f) {
      out += fmt::format("\\x{:02x}", byte_at(text, i));
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace rnbd
