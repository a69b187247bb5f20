// SPDX-License-Identifier: Apache-2.0
#include "cli/map_help.h"

#include <fmt/format.h>

namespace rnbd::cli {
namespace {

std::string lines(bool of_session) {
  constexpr std::size_t kColumn = 32;
  std::string text;
  for (const MapWord& word : kMapWords) {
    if (word.of_session != of_session) continue;
    const std::string left = fmt::format("  {}={}", word.name, word.value);
    // Help that has no room beside its word goes below it.
    text += left.size() < kColumn ? fmt::format("\n{:<32}{}", left, word.help)
                                  : fmt::format("\n{}\n{:<32}{}", left, "", word.help);
  }
  return text;
}

}  // namespace

std::string map_words_text() {
  return "Words, in any order:" + lines(false) +
         "\nand of a session that does not exist yet:" + lines(true);
}

}  // namespace rnbd::cli
