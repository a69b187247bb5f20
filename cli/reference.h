// SPDX-License-Identifier: Apache-2.0
// What a command understands, as data: read off the very definitions that it parses its command
// line by. Manual pages and completions are made of it (manual.h, completion.h), so that they
// cannot say anything else. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

// NOLINTNEXTLINE(readability-identifier-naming): the library's
namespace CLI {
class App;
}

namespace rnbd::cli {

struct OptionReference {
  std::vector<std::string> names;  ///< "-h", "--help"
  std::string value;               ///< "FILE", "yes|no"; empty: it has none
  std::string help;
};

/// What may stand behind a verb and is no option.
struct WordReference {
  std::string value;  ///< "/dev/nbdN"
  std::string help;
  bool many = false;
};

struct VerbReference {
  std::string name;
  std::string help;
  std::string footer;  ///< lines that stay as they are
  std::vector<WordReference> words;
  std::vector<OptionReference> options;  ///< but for --help
};

struct ProgramReference {
  std::string name;
  std::string help;
  std::vector<OptionReference> options;  ///< of all verbs
  std::vector<VerbReference> verbs;
};

ProgramReference reference_of(const CLI::App& app);

struct ExitCodeReference {
  int code = 0;
  std::string_view meaning;
};

/// Of both programs (common/control/exit_codes.h).
std::span<const ExitCodeReference> exit_codes();

/// The alternatives of a value: "ro" and "rw" of "ro|rw".
std::vector<std::string_view> alternatives(std::string_view value);

/// What is always typed of an alternative: all of "ro", "ip:" of "ip:ADDR", nothing of "NAME".
std::string_view literal_part(std::string_view alternative);

}  // namespace rnbd::cli
