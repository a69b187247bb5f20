// SPDX-License-Identifier: Apache-2.0
// The script splits the line itself: bash's own words end at '=' and ':', of which ours are full.
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

constexpr std::string_view kPathPolicies = "round-robin min-inflight min-latency";

std::string function_name(std::string_view program) {
  std::string name = fmt::format("_{}", program);
  std::ranges::replace(name, '-', '_');
  return name;
}

/// Offers `words`, which end with a blank once chosen unless they end with '=' or ':'.
std::string offer(const std::string& words) {
  return fmt::format(R"(COMPREPLY=($(compgen -W "{}" -- "$current")))", words);
}

std::string offer_kind(const Candidates& candidates) {
  switch (candidates.kind) {
    case Kind::Fixed:
      return offer(fmt::format("{}", fmt::join(candidates.fixed, " ")));
    case Kind::Files:
      return "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$current\"))";
    case Kind::Directories:
      return "compopt -o filenames; COMPREPLY=($(compgen -d -- \"$current\"))";
    case Kind::Devices:
      return offer(fmt::format("$({})", kListDevices));
    case Kind::MapWords:
    case Kind::PathWords:
    case Kind::None:
      break;
  }
  return ":";
}

std::string map_words_case() {
  std::string text = "            case $current in\n";
  std::string all;
  for (const MapWord& word : kMapWords) {
    all += fmt::format("{}{}=", all.empty() ? "" : " ", word.name);
    const Candidates values = candidates_for(word.value);
    if (values.kind == Kind::None) continue;
    std::string offered =
        fmt::format(R"(compopt -o filenames; COMPREPLY=($(compgen -f -- "${{current#*=}}")))");
    if (values.kind == Kind::Fixed) {
      offered = fmt::format(R"(COMPREPLY=($(compgen -W "{}" -- "${{current#*=}}")))",
                            fmt::join(values.fixed, " "));
    }
    text +=
        fmt::format("                {}=*) {}; prefix=${{current%%=*}}= ;;\n", word.name, offered);
  }
  return text + fmt::format("                *=*) ;;\n                *) {} ;;\n            esac\n",
                            offer(all));
}

std::string path_words_case() {
  return fmt::format(
      "            local session=${{given[1]:-}}\n"
      "            case ${{#given[@]}},${{given[0]:-}} in\n"
      "                0,*) {} ;;\n"
      "                1,*) {} ;;\n"
      "                2,policy) {} ;;\n"
      "                2,list|2,add) ;;\n"
      "                2,*) {} ;;\n"
      "            esac\n",
      offer(fmt::format("list {}", fmt::join(control::kPathActions, " "))),
      offer(fmt::format("$({})", kListSessions)), offer(std::string(kPathPolicies)),
      offer(fmt::format("$({})", kListPaths)));
}

std::string words_case(const VerbReference& verb) {
  const Candidates candidates = candidates_for(verb.words.front().value);
  if (candidates.kind == Kind::MapWords) return map_words_case();
  if (candidates.kind == Kind::PathWords) return path_words_case();
  return fmt::format("            ((${{#given[@]}} > 0)) || {{ {}; }}\n", offer_kind(candidates));
}

std::string names_of(const std::vector<OptionReference>& options) {
  std::string text;
  for (const OptionReference& option : options) {
    text += fmt::format(" {}", fmt::join(option.names, " "));
  }
  return text;
}

/// Lines of a case on "$verb:$previous" for the options that have a value.
std::string value_cases(std::string_view verb, const std::vector<OptionReference>& options) {
  std::string text;
  for (const OptionReference& option : options) {
    if (option.value.empty()) continue;
    for (const std::string& name : option.names) {
      text += fmt::format("        {}:{}) {}; return ;;\n", verb, name,
                          offer_kind(candidates_for(option.value)));
    }
  }
  return text;
}

std::string names_with_value(const ProgramReference& program) {
  std::vector<std::string> names;
  const auto collect = [&names](const std::vector<OptionReference>& options) {
    for (const OptionReference& option : options) {
      if (!option.value.empty())
        names.insert(names.end(), option.names.begin(), option.names.end());
    }
  };
  collect(program.options);
  for (const VerbReference& verb : program.verbs) collect(verb.options);
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return fmt::format("{}", fmt::join(names, "|"));
}

}  // namespace

std::string bash_completion(const ProgramReference& program) {
  std::vector<std::string> verbs;
  std::string values = value_cases("*", program.options);
  std::string options;
  std::string words;
  for (const VerbReference& verb : program.verbs) {
    verbs.push_back(verb.name);
    values += value_cases(verb.name, verb.options);
    options +=
        fmt::format("            {}) options+=\"{}\" ;;\n", verb.name, names_of(verb.options));
    if (!verb.words.empty())
      words += fmt::format("        {})\n{}            ;;\n", verb.name, words_case(verb));
  }
  return fmt::format(
      R"(# Completion of {program} for bash. Made by the build, of what the program understands.
{function}() {{
    local line=${{COMP_LINE:0:COMP_POINT}} all current previous verb="" prefix="" options i
    local -a given=()
    COMPREPLY=()
    read -ra all <<< "$line"
    [[ $line != *[[:space:]] ]] || all+=("")
    current=${{all[-1]}} previous=${{all[-2]}}
    for ((i = 1; i < ${{#all[@]}} - 1; i++)); do
        case ${{all[i]}} in
            {with_value}) ((++i)) ;;
            -*) ;;
            *) if [[ -z $verb ]]; then verb=${{all[i]}}; else given+=("${{all[i]}}"); fi ;;
        esac
    done
    case $verb:$previous in
{values}    esac
    if [[ $current == -* ]]; then
        options="{global}"
        case $verb in
{options}        esac
        {offer_options}
        return
    fi
    case $verb in
        "") {offer_verbs} ;;
{words}    esac
    # bash replaces what is behind the last of its own word breaks only.
    if [[ -n $prefix && $COMP_WORDBREAKS != *=* ]]; then COMPREPLY=("${{COMPREPLY[@]/#/$prefix}}"); fi
    if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *[=:] ]]; then compopt -o nospace; fi
}}
complete -F {function} {program}
)",
      fmt::arg("program", program.name), fmt::arg("function", function_name(program.name)),
      fmt::arg("with_value", names_with_value(program)), fmt::arg("values", values),
      fmt::arg("global", names_of(program.options)), fmt::arg("options", options),
      fmt::arg("offer_options", offer("$options")),
      fmt::arg("offer_verbs", offer(fmt::format("{}", fmt::join(verbs, " ")))),
      fmt::arg("words", words));
}

}  // namespace rnbd::cli
