// SPDX-License-Identifier: Apache-2.0
// Manual pages and completions as they were built, held against what the programs say in their
// help and against the parsers of the daemons; completion by the bash that is here.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/map_help.h"
#include "client/config_file.h"
#include "client/map_words.h"
#include "server/config_file.h"

namespace rnbd::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::UnorderedElementsAreArray;
using Words = std::vector<std::string>;

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  EXPECT_NE(pipe, nullptr);
  std::string text;
  for (int c = std::fgetc(pipe.get()); c != EOF; c = std::fgetc(pipe.get())) {
    text += static_cast<char>(c);
  }
  return text;
}

std::string built(const std::string& name) {
  std::ifstream file(std::string(RNBD_REFERENCE) + '/' + name);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// What man(7) would show of it, roughly.
std::string built_page(const std::string& name) {
  std::string text = built(name);
  for (const char* mark : {"\\&", "\\fB", "\\fI", "\\fR"}) {
    for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark)) {
      text.erase(at, std::string(mark).size());
    }
  }
  for (auto at = text.find("\\-"); at != std::string::npos; at = text.find("\\-"))
    text.erase(at, 1);
  return text;
}

Words matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  Words found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) {
    found.push_back((*it)[1].matched || it->size() < 3 ? (*it)[1] : (*it)[2]);
  }
  return found;
}

struct Program {
  std::string name;
  std::string path;
};

const Program kClient{"rnbd-client", RNBD_CLIENT};
const Program kServer{"rnbd-server", RNBD_SERVER};

Words verbs_of(const Program& program) {
  const std::string help = output_of(program.path + " --help");
  const auto begin = help.find("Subcommands:\n");
  EXPECT_NE(begin, std::string::npos) << help;
  return matches(help.substr(begin), "\n  ([a-z]+) ");
}

/// Long options at the beginnings of lines, where help lists them.
Words options_of(const Program& program, const std::string& verb) {
  const std::string help = output_of(program.path + ' ' + verb + " --help");
  return matches(help, "\n  (?:-[a-z],)?(--[a-z-]+)");
}

/// What bash offers at the end of `line`.
Words completed(const Program& program, const std::string& line) {
  const std::string script = "source '" + std::string(RNBD_REFERENCE) + '/' + program.name +
                             ".bash'; compopt() { echo \"+$*\"; }; COMP_LINE='" + line +
                             "' COMP_POINT=${#COMP_LINE}; f=$(complete -p " + program.name +
                             "); f=${f#*-F }; ${f% *}; printf '%s\\n' \"${COMPREPLY[@]}\"";
  std::string quoted;
  for (const char c : script) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  Words words = matches(output_of("PATH=/bin:/usr/bin bash -c '" + quoted + "'"), "([^\n]+)\n");
  return words;
}

class Reference : public testing::TestWithParam<const Program*> {
 protected:
  const Program& program_ = *GetParam();
};

TEST_P(Reference, ManualHasEveryVerbAndOption) {
  const std::string page = built_page(program_.name + ".8");
  const Words verbs = verbs_of(program_);
  ASSERT_GE(verbs.size(), 2U);
  for (const std::string& verb : verbs) {
    const auto begin = page.find("\n.SS \"" + verb);
    ASSERT_NE(begin, std::string::npos) << verb;
    const std::string section = page.substr(begin, page.find("\n.S", begin + 1) - begin);
    for (const std::string& option : options_of(program_, verb)) {
      EXPECT_TRUE(option == "--help" || section.contains(option)) << verb << ' ' << option;
    }
  }
  const auto global = page.find("\n.SH \"OPTIONS\"");
  ASSERT_NE(global, std::string::npos);
  const Words options = options_of(program_, "");
  EXPECT_THAT(options, IsSupersetOf({"--help", "--version", "--control"}));
  for (const std::string& option : options) EXPECT_THAT(page.substr(global), HasSubstr(option));
}

TEST_P(Reference, BashOffersEveryVerbAndOption) {
  const Words verbs = verbs_of(program_);
  EXPECT_THAT(completed(program_, program_.name + ' '), UnorderedElementsAreArray(verbs));
  const Words global = options_of(program_, "");
  EXPECT_THAT(completed(program_, program_.name + " -"), IsSupersetOf(global));
  for (const std::string& verb : verbs) {
    Words all = options_of(program_, verb);
    std::ranges::copy(global, std::back_inserter(all));
    Words offered = completed(program_, program_.name + ' ' + verb + " --");
    EXPECT_EQ(std::set<std::string>(offered.begin(), offered.end()),
              std::set<std::string>(all.begin(), all.end()))
        << verb;
  }
}

TEST_P(Reference, ZshHasEveryVerbAndOption) {
  const std::string script = built("_" + program_.name);
  EXPECT_TRUE(script.starts_with("#compdef " + program_.name + '\n'));
  for (const std::string& verb : verbs_of(program_)) {
    EXPECT_THAT(script, HasSubstr("        '" + verb + ":"));
    const auto begin = script.find("\n        " + verb + ")\n");
    ASSERT_NE(begin, std::string::npos) << verb;
    const std::string branch = script.substr(begin, script.find(";;", begin) - begin);
    for (const std::string& option : options_of(program_, verb)) {
      EXPECT_THAT(branch, HasSubstr(")" + option + "[")) << verb;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Programs, Reference, testing::Values(&kClient, &kServer),
                         [](const auto& value) {
                           return value.param == &kClient ? "Client" : "Server";
                         });

TEST(MapWords, InHelpAreThoseThatTheDaemonKnows) {
  Words known;
  for (const std::string_view name : client::map_word_names()) known.emplace_back(name);
  Words told;
  for (const MapWord& word : kMapWords) told.emplace_back(word.name);
  EXPECT_THAT(told, UnorderedElementsAreArray(known));
  const std::string help = output_of(kClient.path + " map --help");
  const std::string page = built_page("rnbd-mapping.7");
  for (const std::string& name : known) {
    EXPECT_THAT(help, HasSubstr("\n  " + name + "="));
    EXPECT_THAT(page, HasSubstr(".TP\n" + name + "="));
  }
}

TEST(MapWords, InHelpHaveTheValuesThatTheDaemonKnows) {
  for (const MapWord& word : kMapWords) {
    if (word.value.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string_view::npos) continue;
    std::string values(word.value);
    std::ranges::replace(values, '|', ' ');
    for (const std::string& value : matches(values + ' ', "([^ ]+) ")) {
      const Words words = {"server=ip:10.0.0.1", "device_path=a",
                           std::string(word.name) + '=' + value};
      const auto parsed = client::parse_map_words(words, "host");
      EXPECT_TRUE(parsed) << describe(parsed.error());
    }
  }
}

Words keys_on(const std::string& name) {
  const std::string page = built_page(name);
  const auto begin = page.find(".SH \"KEYS\"");
  EXPECT_NE(begin, std::string::npos);
  return matches(page.substr(begin, page.find(".SH", begin + 1) - begin),
                 ".TP\n(?:([a-z_]+) = |\\[\\[([a-z]+)\\]\\])");
}

TEST(ConfigurationPage, HasTheKeysThatTheServerKnows) {
  Words known;
  for (const std::string_view key : server::config_keys()) known.emplace_back(key);
  EXPECT_THAT(keys_on("rnbd-server.toml.5"), UnorderedElementsAreArray(known));
}

TEST(ConfigurationPage, HasTheKeysThatTheClientKnows) {
  Words known;
  for (const std::string_view key : client::config_keys()) known.emplace_back(key);
  EXPECT_THAT(keys_on("rnbd-client.toml.5"), UnorderedElementsAreArray(known));
}

TEST(BashCompletion, KnowsMappingWordsAndTheirValues) {
  EXPECT_THAT(completed(kClient, "rnbd-client map "), IsSupersetOf({"server=", "device_path="}));
  EXPECT_THAT(completed(kClient, "rnbd-client map server=ip:10.0.0.1 acc"),
              ElementsAre("+-o nospace", "access_mode="));
  EXPECT_THAT(completed(kClient, "rnbd-client map access_mode=r"), ElementsAre("ro", "rw"));
  EXPECT_THAT(completed(kClient, "rnbd-client map mpath_policy=min-"),
              ElementsAre("min-inflight", "min-latency"));
  EXPECT_THAT(completed(kClient, "rnbd-client map server="), ElementsAre("ip:", "gid:"));
  EXPECT_THAT(completed(kClient, "rnbd-client map device_path=a"), testing::IsEmpty());
}

TEST(BashCompletion, KnowsTheFirstWordOfAdministration) {
  EXPECT_THAT(completed(kServer, "rnbd-server export "), ElementsAre("list", "add", "remove"));
  EXPECT_THAT(completed(kServer, "rnbd-server session c"), ElementsAre("close"));
  EXPECT_THAT(completed(kServer, "rnbd-server config "), ElementsAre("validate", "show"));
}

TEST(BashCompletion, KnowsValuesOfOptions) {
  EXPECT_THAT(completed(kClient, "rnbd-client daemon --log-level "),
              ElementsAre("debug", "info", "warning", "error"));
  EXPECT_THAT(completed(kServer, "rnbd-server daemon --always-invalidate "),
              ElementsAre("yes", "no"));
  EXPECT_THAT(completed(kServer, "rnbd-server daemon --config /etc/pass"), Contains("/etc/passwd"));
}

TEST(BashCompletion, LooksForTheVerbBehindOptionsWithValues) {
  EXPECT_THAT(completed(kClient, "rnbd-client --control /x daemon --log-level d"),
              ElementsAre("debug"));
  EXPECT_THAT(completed(kClient, "rnbd-client --control /x unm"), ElementsAre("unmap"));
}

TEST(BashCompletion, KnowsWhatCanBeDoneWithPaths) {
  EXPECT_THAT(completed(kClient, "rnbd-client path d"), ElementsAre("disconnect", "drain"));
  EXPECT_THAT(completed(kClient, "rnbd-client path policy blya min-l"), ElementsAre("min-latency"));
}

}  // namespace
}  // namespace rnbd::cli
