// SPDX-License-Identifier: Apache-2.0
// Completion for bash and zsh, made of what a program understands. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/reference.h"

namespace rnbd::cli {

/// Sourced by bash; stands on nothing but bash itself.
std::string bash_completion(const ProgramReference& program);

/// A function file for zsh's fpath, "_PROGRAM".
std::string zsh_completion(const ProgramReference& program);

/// What may be typed for a value or a word, told by how its kind is called in the definitions.
struct Candidates {
  enum class Kind { None, Fixed, Files, Directories, Devices, MapWords, PathWords };
  Kind kind = Kind::None;
  std::vector<std::string_view> fixed;  ///< of Kind::Fixed
};
Candidates candidates_for(std::string_view value);

/// What a shell runs to learn what the daemon has: words, one a line; nothing if there is none.
inline constexpr const char* kListDevices =
    "rnbd-client list --noheaders 2>/dev/null | cut -d' ' -f1";
inline constexpr const char* kListSessions =
    "rnbd-client path list --noheaders 2>/dev/null | cut -d' ' -f1 | sort -u";
/// Of the session in the shell's variable `session`.
inline constexpr const char* kListPaths =
    "rnbd-client path list \"$session\" --noheaders 2>/dev/null | tr -s ' ' | cut -d' ' -f2";

}  // namespace rnbd::cli
