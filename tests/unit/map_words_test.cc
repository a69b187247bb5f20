// SPDX-License-Identifier: Apache-2.0
// The mapping words, word for word: what IBNBD's and the kernel's users type, and every way to get
// it wrong.
#include "client/map_words.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/words.h"

namespace rnbd::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kHost = "blue.example.org";

Result<MapRequest> parse(const std::vector<std::string>& words) {
  return parse_map_words(words, kHost);
}

/// The message of the EINVAL that `words` earn.
std::string error_of(const std::vector<std::string>& words) {
  const auto result = parse(words);
  if (result) return "no error";
  EXPECT_EQ(result.error().code, EINVAL);
  return result.error().message;
}

/// As error_of, for one bad word among good ones.
std::string error_of_word(const std::string& word) {
  return error_of({"server=ip:10.0.0.1", word, "device_path=x"});
}

std::vector<PathSpec> paths_of(const std::vector<std::string>& path_words) {
  std::vector<std::string> words = {"sessname=blya", "device_path=vol1"};
  words.insert(words.end(), path_words.begin(), path_words.end());
  const auto request = parse(words);
  EXPECT_TRUE(request) << describe(request.error());
  return request ? request->paths : std::vector<PathSpec>{};
}

std::string error_of_path(const std::string& value) {
  return error_of({"sessname=blya", "device_path=vol1", "path=" + value});
}

TEST(MapWords, UnderstandsIbnbdsLineUnchanged) {
  const auto request = parse({"server=ip:10.0.0.1", "device_path=/dev/ram0"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->session_name, "blue-example-org@10-0-0-1");
  EXPECT_THAT(request->paths, ElementsAre(PathSpec{"", "ip:10.0.0.1"}));
  EXPECT_EQ(request->port, 1234);
  EXPECT_EQ(request->device_path, "/dev/ram0");
  EXPECT_EQ(request->access_mode, wire::AccessMode::ReadWrite);
  EXPECT_EQ(request->input_mode, InputMode::MultiQueue);
  EXPECT_EQ(request->io_mode, wire::IoMode::ServerDefault);
  EXPECT_EQ(request->device_index, std::nullopt);
}

TEST(MapWords, UnderstandsAllOfIbnbdsWords) {
  const auto request = parse({"io_mode=blockio", "input_mode=rq", "access_mode=migration",
                              "device_path=vol1", "server=gid:fe80::200:5aee:feaa:20a2"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->session_name, "blue-example-org@fe80--200-5aee-feaa-20a2");
  EXPECT_THAT(request->paths, ElementsAre(PathSpec{"", "gid:fe80::200:5aee:feaa:20a2"}));
  EXPECT_EQ(request->access_mode, wire::AccessMode::Migration);
  EXPECT_EQ(request->input_mode, InputMode::SingleQueue);
  EXPECT_EQ(request->io_mode, wire::IoMode::BlockIo);
}

TEST(MapWords, UnderstandsTheKernelsLineUnchanged) {
  const auto request =
      parse({"sessname=blya", "path=ip:10.0.0.2@ip:10.0.0.1", "path=ip:10.1.0.2,ip:10.1.0.1",
             "device_path=vol1", "dest_port=1235", "access_mode=ro"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->session_name, "blya");
  EXPECT_THAT(request->paths, ElementsAre(PathSpec{"ip:10.0.0.2", "ip:10.0.0.1"},
                                          PathSpec{"ip:10.1.0.2", "ip:10.1.0.1"}));
  EXPECT_EQ(request->port, 1235);
  EXPECT_EQ(request->access_mode, wire::AccessMode::ReadOnly);
}

TEST(MapWords, UnderstandsTheSameWordsInAnyOrder) {
  const auto request = parse({"dest_port=1235", "device_path=vol1", "path=ip:10.0.0.1",
                              "io_mode=fileio", "sessname=blya"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->port, 1235);
  EXPECT_EQ(request->io_mode, wire::IoMode::FileIo);
  EXPECT_EQ(request->session_name, "blya");
}

TEST(MapWords, LeavesASessionWithoutPathsToTheDaemon) {
  const auto request = parse({"sessname=blya", "device_path=vol1"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_TRUE(request->paths.empty());
}

TEST(MapWords, TakesWhatASessionWithPathsNeeds) {
  const auto plain = parse({"server=ip:10.0.0.1", "device_path=vol1"});
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->policy, rtrs::PathPolicy::MinInflight);
  EXPECT_EQ(plain->fail_after, std::nullopt);
  EXPECT_EQ(plain->max_reconnect_attempts, -1);
  const auto request =
      parse({"server=ip:10.0.0.1", "device_path=vol1", "mpath_policy=RR", "hb_interval_ms=250",
             "hb_missed_max=3", "max_reconnect_attempts=7", "on_no_path=fail-after:60s"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->policy, rtrs::PathPolicy::RoundRobin);
  EXPECT_EQ(request->hb_interval, std::chrono::milliseconds(250));
  EXPECT_EQ(request->hb_missed_max, 3U);
  EXPECT_EQ(request->max_reconnect_attempts, 7);
  EXPECT_EQ(request->fail_after, std::chrono::seconds(60));
  EXPECT_EQ(parse({"server=ip:10.0.0.1", "device_path=x", "on_no_path=fail-after:0"})->fail_after,
            std::chrono::seconds(0));
  EXPECT_EQ(parse({"server=ip:10.0.0.1", "device_path=x", "on_no_path=queue"})->fail_after,
            std::nullopt);
}

TEST(MapWords, RefusesWhatNoSessionCanHave) {
  for (const char* word :
       {"mpath_policy=fastest", "hb_interval_ms=9", "hb_interval_ms=60001", "hb_missed_max=0",
        "max_reconnect_attempts=-2", "max_reconnect_attempts=10000",
        "on_no_path=", "on_no_path=fail", "on_no_path=fail-after:", "on_no_path=fail-after:-1",
        "on_no_path=fail-after:1m", "on_no_path=fail-after:86401"}) {
    EXPECT_THAT(error_of_word(word), HasSubstr("must be")) << word;
  }
}

TEST(MapWords, KnowsPoliciesByTheKernelsNames) {
  using rtrs::PathPolicy;
  const std::pair<const char*, PathPolicy> names[] = {
      {"round-robin", PathPolicy::RoundRobin},   {"rr", PathPolicy::RoundRobin},
      {"min-inflight", PathPolicy::MinInflight}, {"MI", PathPolicy::MinInflight},
      {"Min-Latency", PathPolicy::MinLatency},   {"ml", PathPolicy::MinLatency}};
  for (const auto& [name, policy] : names) {
    const auto parsed = parse_policy(name);
    ASSERT_TRUE(parsed) << name;
    EXPECT_EQ(*parsed, policy);
    EXPECT_EQ(*parse_policy(name_of(policy)), policy);
  }
}

TEST(MapWords, TakesTheNodeToUse) {
  const auto request = parse({"server=ip:10.0.0.1", "device_path=vol1", "device=/dev/nbd17"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->device_index, 17U);
}

TEST(MapWords, KeepsEqualsSignsAndBlanksOfADevicePath) {
  const auto request = parse({"server=ip:10.0.0.1", "device_path=a=b c"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->device_path, "a=b c");
}

TEST(MapWords, GivesEachAddressOneSpelling) {
  EXPECT_THAT(paths_of({"path=ip:fe80:0:0::1"}), ElementsAre(PathSpec{"", "ip:[fe80::1]"}));
  EXPECT_THAT(paths_of({"path=ip:[FE80::1]"}), ElementsAre(PathSpec{"", "ip:[fe80::1]"}));
  EXPECT_THAT(paths_of({"path=ip:[fe80::1%eth0]"}), ElementsAre(PathSpec{"", "ip:[fe80::1%eth0]"}));
  EXPECT_THAT(paths_of({"path=ip:fe80::1%eth0.7"}),
              ElementsAre(PathSpec{"", "ip:[fe80::1%eth0.7]"}));
  EXPECT_THAT(paths_of({"path=gid:FE80:0::2"}), ElementsAre(PathSpec{"", "gid:fe80::2"}));
}

TEST(MapWords, ReadsCommasAsTheKernelUnlessEachPathHasItsAt) {
  EXPECT_THAT(paths_of({"path=ip:1.0.0.2,ip:1.0.0.1"}),
              ElementsAre(PathSpec{"ip:1.0.0.2", "ip:1.0.0.1"}));
  EXPECT_THAT(
      paths_of({"path=ip:1.0.0.2@ip:1.0.0.1,ip:2.0.0.2@ip:2.0.0.1"}),
      ElementsAre(PathSpec{"ip:1.0.0.2", "ip:1.0.0.1"}, PathSpec{"ip:2.0.0.2", "ip:2.0.0.1"}));
  EXPECT_THAT(error_of_path("ip:1.0.0.2@ip:1.0.0.1,ip:2.0.0.1"), HasSubstr("is not src@dst"));
  EXPECT_THAT(error_of_path("ip:1.0.0.1,ip:1.0.0.2,ip:1.0.0.3"), HasSubstr("src@dst,src@dst"));
}

TEST(MapWords, RefusesPathsThatCannotBe) {
  EXPECT_THAT(error_of_path("ip:1.0.0.2@ip:fe80::1"), HasSubstr("cannot lead from"));
  EXPECT_THAT(error_of_path("ip:fe80::2@gid:fe80::1"), HasSubstr("cannot lead from"));
  EXPECT_THAT(error_of_path("ip:1.0.0.2@"), HasSubstr("is not an address"));
  EXPECT_THAT(error_of_path("@ip:1.0.0.2"), HasSubstr("is not an address"));
  EXPECT_THAT(error_of_path("ip:1.0.0.2@ip:1.0.0.1@ip:1.0.0.3"), HasSubstr("is not src@dst"));
  EXPECT_THAT(error_of_path(""), HasSubstr("is not an address"));
}

TEST(MapWords, RefusesWhatIsNotAnAddress) {
  EXPECT_THAT(error_of_path("10.0.0.1"), HasSubstr("did you mean 'ip:10.0.0.1'?"));
  EXPECT_THAT(error_of_path("ip:10.0.0"), HasSubstr("'ip:10.0.0' is not an IP address"));
  EXPECT_THAT(error_of_path("ip:10.0.0.256"), HasSubstr("is not an IP address"));
  EXPECT_THAT(error_of_path("ip:server.example.org"), HasSubstr("is not an IP address"));
  EXPECT_THAT(error_of_path("ip:[10.0.0.1]"), HasSubstr("is not an IP address"));
  EXPECT_THAT(error_of_path("ip:[fe80::1"), HasSubstr("is not an IP address"));
  EXPECT_THAT(error_of_path("ip:fe80::1%"), HasSubstr("is not an IP address"));
  EXPECT_THAT(error_of_path("ip:fe80::1%a/b"), HasSubstr("is not an IP address"));
  EXPECT_THAT(error_of_path("gid:10.0.0.1"), HasSubstr("is not a GID"));
  EXPECT_THAT(error_of({"server=", "device_path=x"}), HasSubstr("is not an address"));
}

TEST(MapWords, TakesSixPathsAndNoMore) {
  std::vector<std::string> words;
  for (int i = 1; i <= 6; ++i) words.push_back("path=ip:10.0.0." + std::to_string(i));
  EXPECT_EQ(paths_of(words).size(), 6U);
  words.insert(words.end(), {"path=ip:10.0.0.7", "sessname=blya", "device_path=vol1"});
  EXPECT_THAT(error_of(words), HasSubstr("'path=ip:10.0.0.7': a mapping has at most 6 paths"));
}

TEST(MapWords, RefusesTheSamePathTwiceHoweverSpelt) {
  EXPECT_THAT(error_of({"sessname=a", "device_path=x", "path=ip:fe80::1", "path=ip:[fe80:0::1]"}),
              HasSubstr("'path=ip:[fe80:0::1]': this path is given twice"));
}

TEST(MapWords, NamesAnUnknownWordAndTheNearestRightOne) {
  EXPECT_EQ(error_of_word("acess_mode=ro"),
            "unknown word 'acess_mode=ro'; did you mean 'access_mode'?");
  EXPECT_EQ(error_of_word("port=1234"), "unknown word 'port=1234'; did you mean 'dest_port'?");
  EXPECT_EQ(error_of_word("sessionname=a"),
            "unknown word 'sessionname=a'; did you mean 'sessname'?");
  EXPECT_EQ(error_of_word("dev_path=a"), "unknown word 'dev_path=a'; did you mean 'device_path'?");
  EXPECT_EQ(error_of_word("colour=blue"), "unknown word 'colour=blue'");
  EXPECT_EQ(error_of_word("=x"), "unknown word '=x'");
  EXPECT_EQ(error_of_word(""), "unknown word ''");
}

TEST(MapWords, NamesAWrongValueAndTheNearestRightOne) {
  EXPECT_EQ(error_of_word("access_mode=rx"),
            "'access_mode=rx': must be one of ro, rw, migration; did you mean 'ro'?");
  EXPECT_EQ(error_of_word("access_mode=migrate"),
            "'access_mode=migrate': must be one of ro, rw, migration; did you mean 'migration'?");
  EXPECT_EQ(error_of_word("input_mode=blk"), "'input_mode=blk': must be one of mq, rq");
  EXPECT_EQ(error_of_word("io_mode=blokio"),
            "'io_mode=blokio': must be one of fileio, blockio; did you mean 'blockio'?");
  EXPECT_EQ(error_of_word("access_mode="), "'access_mode=': must be one of ro, rw, migration");
  EXPECT_EQ(error_of_word("access_mode=RO"), "'access_mode=RO': must be one of ro, rw, migration");
  EXPECT_EQ(error_of_word("io_mode"), "'io_mode' needs a value: io_mode=…");
}

TEST(MapWords, RefusesPortsThatAreNone) {
  for (const char* port : {"0", "65536", "-1", "0x10", "12 ", " 12", "+5", "1234x", ""}) {
    EXPECT_THAT(error_of_word(std::string("dest_port=") + port), HasSubstr("must be a port"))
        << port;
  }
  EXPECT_EQ(parse({"server=ip:1.1.1.1", "device_path=x", "dest_port=65535"})->port, 65535);
  EXPECT_EQ(parse({"server=ip:1.1.1.1", "device_path=x", "dest_port=1"})->port, 1);
}

TEST(MapWords, GiveEachPathItsPort) {
  EXPECT_THAT(paths_of({"dest_port=1234,1235", "path=ip:10.0.0.1", "path=ip:10.1.0.1"}),
              ElementsAre(PathSpec{"", "ip:10.0.0.1", 1234}, PathSpec{"", "ip:10.1.0.1", 1235}));
  EXPECT_EQ(error_of({"sessname=blya", "device_path=x", "path=ip:10.0.0.1", "dest_port=1,2"}),
            "dest_port= has 2 ports, and there are 1 paths");
  EXPECT_EQ(error_of_word("dest_port=1,2"), "dest_port= has 2 ports, and there are 1 paths");
  for (const char* const ports : {"1,", ",1", "1,,2", "1,0", "1;2"}) {
    EXPECT_THAT(error_of_word(std::string("dest_port=") + ports), HasSubstr("must be a port"))
        << ports;
  }
  const std::vector<std::string> address = {"path=ip:10.0.0.1", "path=ip:10.1.0.1",
                                            "dest_port=7,8"};
  const auto read = parse_address_words(address);
  ASSERT_TRUE(read) << describe(read.error());
  EXPECT_EQ(read->paths.at(1).port, 8);
}

TEST(MapWords, RefusesNodesThatAreNone) {
  for (const char* node :
       {"nbd0", "/dev/nbd", "/dev/nbd0p1", "/dev/nbd-1", "/dev/nbd1048576", "/dev/sda", ""}) {
    EXPECT_THAT(error_of_word(std::string("device=") + node), HasSubstr("must be a node")) << node;
  }
}

TEST(MapWords, RefusesAWordTwice) {
  EXPECT_THAT(error_of_word("device_path=y"), HasSubstr("device_path= is given twice"));
  EXPECT_THAT(error_of_word("server=ip:10.0.0.1"), HasSubstr("server= is given twice"));
}

TEST(MapWords, BoundsNames) {
  const std::string longest(254, 'a');
  const auto request = parse({"sessname=" + longest, "device_path=" + longest});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->session_name, longest);
  EXPECT_EQ(request->device_path, longest);
  EXPECT_THAT(error_of({"sessname=" + longest + "a", "device_path=x"}), HasSubstr("has 255 bytes"));
  EXPECT_THAT(error_of({"sessname=a", "device_path=" + longest + "a"}), HasSubstr("has 255 bytes"));
  EXPECT_THAT(error_of({"sessname=", "device_path=x"}), HasSubstr("must not be empty"));
  EXPECT_THAT(error_of({"sessname=a", "device_path="}), HasSubstr("must not be empty"));
}

TEST(MapWords, RefusesSessionNamesTheKernelCannotHave) {
  EXPECT_THAT(error_of_word("sessname=a/b"), HasSubstr("no '/' and no '.'"));
  EXPECT_THAT(error_of_word("sessname=a.b"), HasSubstr("no '/' and no '.'"));
  EXPECT_THAT(error_of({"sessname=blya path=ip:10:0:0:1 device_path=x"}),
              HasSubstr("give each word as an argument of its own"));
}

TEST(MapWords, RefusesControlCharacters) {
  EXPECT_THAT(error_of_word(std::string("sessname=a\0b", 12)), HasSubstr("control character"));
  EXPECT_THAT(error_of_word("sessname=a\nb"), HasSubstr("control character"));
}

TEST(MapWords, SaysWhatIsMissing) {
  EXPECT_THAT(error_of({"server=ip:10.0.0.1"}), HasSubstr("device_path= is missing"));
  EXPECT_THAT(error_of({"device_path=x"}), HasSubstr("server=ip:ADDR is missing"));
  EXPECT_THAT(error_of({"device_path=x", "path=ip:10.0.0.1"}), HasSubstr("path= needs sessname="));
  EXPECT_THAT(error_of({}), HasSubstr("device_path= is missing"));
}

TEST(MapWords, RefusesServerAndPathTogether) {
  EXPECT_THAT(error_of_word("path=ip:10.0.0.2"), HasSubstr("exclude each other"));
}

TEST(MapWords, PrefersAGivenSessionNameToADerivedOne) {
  const auto request = parse({"server=ip:10.0.0.1", "sessname=mine", "device_path=x"});
  ASSERT_TRUE(request) << describe(request.error());
  EXPECT_EQ(request->session_name, "mine");
  EXPECT_EQ(request->paths.size(), 1U);
}

TEST(DerivedSessionName, IsLegalForEveryAddress) {
  EXPECT_EQ(derived_session_name("a.b", "ip:10.0.0.1", 1234), "a-b@10-0-0-1");
  EXPECT_EQ(derived_session_name("a", "ip:[fe80::1%eth0.7]", 1234), "a@fe80--1%eth0-7");
  EXPECT_EQ(derived_session_name("a", "gid:fe80::1", 1234), "a@fe80--1");
  EXPECT_EQ(derived_session_name("a/b c", "ip:10.0.0.1", 1234), "a-b-c@10-0-0-1");
}

TEST(DerivedSessionName, TellsServersOnOtherPortsApart) {
  EXPECT_EQ(derived_session_name("a", "ip:10.0.0.1", 1235), "a@10-0-0-1:1235");
}

TEST(DerivedSessionName, CutsTheHostToFit) {
  const std::string name = derived_session_name(std::string(300, 'h'), "ip:10.0.0.1", 65535);
  EXPECT_EQ(name.size(), kMaxName);
  EXPECT_TRUE(name.ends_with("h@10-0-0-1:65535"));
}

TEST(AddressWords, AreAServersAndNothingElse) {
  const std::vector<std::string> one = {"server=ip:10.0.0.1", "dest_port=1300"};
  EXPECT_EQ(parse_address_words(one)->paths, (std::vector<PathSpec>{{"", "ip:10.0.0.1"}}));
  EXPECT_EQ(parse_address_words(one)->port, 1300);
  const std::vector<std::string> two = {"path=ip:10.0.0.2@ip:10.0.0.1,ip:10.1.0.2@ip:10.1.0.1"};
  EXPECT_EQ(parse_address_words(two)->paths.size(), 2U);
  const std::vector<std::string> other = {"server=ip:10.0.0.1", "device_path=vol1"};
  EXPECT_EQ(parse_address_words(other).error().message, "unknown word 'device_path=vol1'");
  EXPECT_EQ(parse_address_words({}).error().code, EINVAL);
}

TEST(SessionWords, SayOnlyWhatIsGiven) {
  const std::vector<std::string> words = {"on_no_path=fail-after:60"};
  const auto change = parse_session_words(words);
  ASSERT_TRUE(change);
  ASSERT_TRUE(change->fail_after);
  EXPECT_EQ(*change->fail_after, std::chrono::seconds(60));
  EXPECT_FALSE(change->policy);
  EXPECT_FALSE(change->max_reconnect_attempts);
}

TEST(SessionWords, KnowThatQueueingIsAChangeToo) {
  const std::vector<std::string> words = {"on_no_path=queue", "mpath_policy=rr",
                                          "max_reconnect_attempts=7"};
  const auto change = parse_session_words(words);
  ASSERT_TRUE(change);
  ASSERT_TRUE(change->fail_after);
  EXPECT_FALSE(change->fail_after->has_value());
  EXPECT_EQ(change->policy, rtrs::PathPolicy::RoundRobin);
  EXPECT_EQ(change->max_reconnect_attempts, 7);
}

TEST(SessionWords, OfNothingAndOfMappingsAreRefused) {
  EXPECT_EQ(parse_session_words({}).error().code, EINVAL);
  const std::vector<std::string> words = {"hb_interval_ms=100"};
  EXPECT_EQ(parse_session_words(words).error().message, "unknown word 'hb_interval_ms=100'");
}

TEST(ModeNames, AreTheWordsOfTheCommandLine) {
  EXPECT_EQ(name_of(wire::AccessMode::ReadOnly), "ro");
  EXPECT_EQ(name_of(wire::AccessMode::Migration), "migration");
  EXPECT_EQ(name_of(wire::IoMode::FileIo), "fileio");
  EXPECT_EQ(name_of(wire::IoMode::ServerDefault), "default");
}

TEST(EditDistance, CountsSingleLetterEdits) {
  EXPECT_EQ(edit_distance("list", "list"), 0U);
  EXPECT_EQ(edit_distance("lst", "list"), 1U);
  EXPECT_EQ(edit_distance("lits", "list"), 1U);
  EXPECT_EQ(edit_distance("", "list"), 4U);
  EXPECT_EQ(edit_distance("unmap", "map"), 2U);
}

TEST(NearestWord, SaysNothingRatherThanMislead) {
  constexpr std::array<std::string_view, 3> kVerbs = {"map", "unmap", "list"};
  EXPECT_EQ(nearest_word("lits", kVerbs), "list");
  EXPECT_EQ(nearest_word("umap", kVerbs), "map");
  EXPECT_EQ(nearest_word("frobnicate", kVerbs), std::nullopt);
  EXPECT_EQ(nearest_word("", kVerbs), std::nullopt);
  EXPECT_EQ(nearest_word(std::string(100000, 'x'), kVerbs), std::nullopt);
}

}  // namespace
}  // namespace rnbd::client
