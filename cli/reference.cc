// SPDX-License-Identifier: Apache-2.0
#include "cli/reference.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <CLI/CLI.hpp>

namespace rnbd::cli {
namespace {

constexpr std::array kExitCodes = {
    ExitCodeReference{0, "ok"},
    ExitCodeReference{1, "other error"},
    ExitCodeReference{2, "usage"},
    ExitCodeReference{3, "already there"},
    ExitCodeReference{4, "not there"},
    ExitCodeReference{5, "in use"},
    ExitCodeReference{6, "refused"},
    ExitCodeReference{7, "server unreachable"},
    ExitCodeReference{8, "timed out"},
    ExitCodeReference{9, "protocol"},
    ExitCodeReference{10, "daemon not running"},
    ExitCodeReference{11, "partly done"},
    ExitCodeReference{12, "configuration invalid"},
};

/// Without what CLI11 adds to it for each check of the value, behind a colon.
std::string value_of(const CLI::Option& option) {
  const std::string text = option.get_type_name();
  return text.substr(0, text.find(':'));
}

OptionReference option_reference(const CLI::Option& option) {
  OptionReference made{.names = {}, .value = value_of(option), .help = option.get_description()};
  for (const std::string& name : option.get_snames()) made.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) made.names.push_back("--" + name);
  if (option.get_items_expected_max() == 0) made.value.clear();
  return made;
}

std::vector<OptionReference> options_of(const CLI::App& app) {
  std::vector<OptionReference> made;
  const bool is_verb = app.get_parent() != nullptr;
  for (const CLI::Option* option : app.get_options()) {
    const bool told_already = is_verb && option == app.get_help_ptr();
    if (option->nonpositional() && !told_already) made.push_back(option_reference(*option));
  }
  return made;
}

VerbReference verb_reference(const CLI::App& program, const CLI::App& verb) {
  // A verb without a footer inherits the program's.
  const bool own_footer = verb.get_footer() != program.get_footer();
  VerbReference made{.name = verb.get_name(),
                     .help = verb.get_description(),
                     .footer = own_footer ? verb.get_footer() : std::string(),
                     .words = {},
                     .options = options_of(verb)};
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->get_positional()) continue;
    made.words.push_back({.value = value_of(*option),
                          .help = option->get_description(),
                          .many = option->get_items_expected_max() > 1});
  }
  return made;
}

}  // namespace

ProgramReference reference_of(const CLI::App& app) {
  ProgramReference made{.name = app.get_name(),
                        .help = app.get_description(),
                        .options = options_of(app),
                        .verbs = {}};
  for (const CLI::App* verb : app.get_subcommands({})) {
    made.verbs.push_back(verb_reference(app, *verb));
  }
  return made;
}

std::span<const ExitCodeReference> exit_codes() { return kExitCodes; }

std::vector<std::string_view> alternatives(std::string_view value) {
  std::vector<std::string_view> made;
  while (!value.empty()) {
    made.push_back(value.substr(0, value.find('|')));
    value.remove_prefix(std::min(value.size(), made.back().size() + 1));
  }
  return made;
}

std::string_view literal_part(std::string_view alternative) {
  const auto* const variable = std::ranges::find_if(alternative, [](char c) {
    return c == '[' || std::isupper(static_cast<unsigned char>(c)) != 0;
  });
  return alternative.substr(0, static_cast<std::size_t>(variable - alternative.begin()));
}

}  // namespace rnbd::cli
