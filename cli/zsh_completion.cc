// SPDX-License-Identifier: Apache-2.0
// Specifications for zsh's _arguments; see zshcompsys(1).
#include <algorithm>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/completion.h"
#include "cli/map_help.h"
#include "common/control/verbs.h"

namespace rnbd::cli {
namespace {

using Kind = Candidates::Kind;

/// Inside of single quotes, with a backslash before each of `special`.
std::string quoted(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      if (special.contains(c)) out += '\\';
      out += c;
    }
  }
  return out;
}

/// In a specification of _arguments, and in one of _describe.
std::string explained(std::string_view text) { return quoted(text, "[]:\\"); }
std::string described(std::string_view text) { return quoted(text, ":\\"); }

std::string action_for(std::string_view value) {
  const Candidates candidates = candidates_for(value);
  switch (candidates.kind) {
    case Kind::Fixed:
      return fmt::format("({})", fmt::join(candidates.fixed, " "));
    case Kind::Files:
      return "_files";
    case Kind::Directories:
      return "_files -/";
    case Kind::Devices:
      return "_rnbd_devices";
    case Kind::MapWords:
      return "_rnbd_map_words";
    case Kind::PathWords:
      return "_rnbd_path_words";
    case Kind::None:
      break;
  }
  return " ";
}

std::string option_specifications(const std::vector<OptionReference>& options) {
  std::string text;
  for (const OptionReference& option : options) {
    const std::string value = option.value.empty() ? std::string()
                                                   : fmt::format(":{}:{}", explained(option.value),
                                                                 action_for(option.value));
    for (const std::string& name : option.names) {
      text += fmt::format(" \\\n          '({}){}[{}]{}'", fmt::join(option.names, " "), name,
                          explained(option.help), value);
    }
  }
  return text;
}

std::string word_specifications(const std::vector<WordReference>& words) {
  std::string text;
  for (const WordReference& word : words) {
    text += fmt::format(" \\\n          '{}:{}:{}'", word.many ? "*" : "", explained(word.value),
                        action_for(word.value));
  }
  return text;
}

std::string map_words_function() {
  std::string values;
  std::string names;
  for (const MapWord& word : kMapWords) {
    names += fmt::format("        '{}:{}'\n", word.name, described(word.help));
    const Candidates candidates = candidates_for(word.value);
    if (candidates.kind == Kind::None) continue;
    const std::string offered = candidates.kind == Kind::Fixed
                                    ? fmt::format("compadd -- {}", fmt::join(candidates.fixed, " "))
                                    : std::string("_files");
    values += fmt::format("        {}=*) compset -P '*='; {} ;;\n", word.name, offered);
  }
  return fmt::format(
      "_rnbd_map_words() {{\n"
      "    local -a words_of_map=(\n{}    )\n"
      "    case $PREFIX in\n{}        *=*) ;;\n"
      "        *) _describe word words_of_map -S = ;;\n"
      "    esac\n}}\n",
      names, values);
}

std::string helper_functions() {
  return fmt::format(
      "_rnbd_devices() {{ compadd -- $({}) }}\n{}"
      "_rnbd_path_words() {{\n"
      "    local session=${{words[3]:-}}\n"
      "    case $CURRENT in\n"
      "        2) compadd -- list {} ;;\n"
      "        3) compadd -- $({}) ;;\n"
      "        4) if [[ $words[2] == policy ]]; then compadd -- round-robin min-inflight "
      "min-latency\n"
      "           elif [[ $words[2] != (list|add) ]]; then compadd -- $({}); fi ;;\n"
      "    esac\n}}\n",
      kListDevices, map_words_function(), fmt::join(control::kPathActions, " "), kListSessions,
      kListPaths);
}

bool uses_helpers(const ProgramReference& program) {
  return std::ranges::any_of(program.verbs, [](const VerbReference& verb) {
    return std::ranges::any_of(verb.words, [](const WordReference& word) {
      return action_for(word.value).starts_with("_rnbd_");
    });
  });
}

}  // namespace

std::string zsh_completion(const ProgramReference& program) {
  std::string verbs;
  std::string cases;
  for (const VerbReference& verb : program.verbs) {
    verbs += fmt::format("        '{}:{}'\n", verb.name, described(verb.help));
    cases += fmt::format("        {})\n        _arguments{}{}{} ;;\n", verb.name,
                         option_specifications(verb.options),
                         option_specifications(program.options), word_specifications(verb.words));
  }
  return fmt::format(
      R"(#compdef {program}
# Completion of {program} for zsh. Made by the build, of what the program understands.
{helpers}_{program}() {{
    local curcontext=$curcontext state line
    local -a verbs=(
{verbs}    )
    _arguments -C{options} \
          '1:verb:->verb' '*::argument:->argument'
    case $state in
    verb) _describe verb verbs ;;
    argument)
        case $words[1] in
{cases}        esac ;;
    esac
}}
_{program} "$@"
)",
      fmt::arg("program", program.name),
      fmt::arg("helpers", uses_helpers(program) ? helper_functions() : std::string()),
      fmt::arg("verbs", verbs), fmt::arg("options", option_specifications(program.options)),
      fmt::arg("cases", cases));
}

}  // namespace rnbd::cli
