// SPDX-License-Identifier: Apache-2.0
#include "cli/completion.h"

#include <algorithm>

namespace rnbd::cli {
namespace {

using Kind = Candidates::Kind;

}  // namespace

Candidates candidates_for(std::string_view value) {
  if (value == "FILE" || value == "PATH") return {.kind = Kind::Files, .fixed = {}};
  if (value == "DIR") return {.kind = Kind::Directories, .fixed = {}};
  if (value == "/dev/nbdN") return {.kind = Kind::Devices, .fixed = {}};
  if (value == "KEY=VALUE") return {.kind = Kind::MapWords, .fixed = {}};
  if (value == "WORD") return {.kind = Kind::PathWords, .fixed = {}};
  std::vector<std::string_view> fixed;
  for (const std::string_view alternative : alternatives(value)) {
    if (const auto literal = literal_part(alternative); !literal.empty()) fixed.push_back(literal);
  }
  return {.kind = fixed.empty() ? Kind::None : Kind::Fixed, .fixed = std::move(fixed)};
}

}  // namespace rnbd::cli
