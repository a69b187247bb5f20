// SPDX-License-Identifier: Apache-2.0
// What the commands print.
#include "cli/table.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "cli/list.h"
#include "cli/output.h"
#include "common/control/verbs.h"

namespace rnbd::cli {
namespace {

control::Json two_devices() {
  control::Json devices = control::Json::array();
  devices.push_back(control::to_json(control::DeviceEntry{.device = "/dev/nbd0",
                                                          .session = "blya",
                                                          .mapping_path = "vol1",
                                                          .state = "queueing",
                                                          .access_mode = "rw",
                                                          .io_mode = "blockio",
                                                          .size_bytes = 10737418240,
                                                          .state_seconds = 12,
                                                          .in_flight = 84}));
  devices.push_back(control::to_json(control::DeviceEntry{
      "/dev/nbd12", "a-long-session", "v", "closed", "migration", "fileio", 512, "ip:10.0.0.2"}));
  for (const char* state : {"connected", "connected", "waiting"}) {
    devices[0]["paths"].push_back({{"state", state}});
  }
  return control::list_result(devices);
}

TEST(Table, AlignsTextLeftAndSizesRight) {
  Table table({{"NAME"}, {"SIZE", Align::Right}, {"LAST"}});
  table.add_row({"a", "1K", "x"});
  table.add_row({"longer", "1023.9M", ""});
  EXPECT_EQ(*table.render({}),
            "NAME       SIZE  LAST\n"
            "a            1K  x\n"
            "longer  1023.9M  -\n");
}

TEST(Table, WithoutHeadersIsNoWiderThanItsCells) {
  Table table({{"NAME"}, {"SIZE", Align::Right}});
  EXPECT_EQ(*table.render({.headers = false}), "");
  table.add_row({"a", "1K"});
  EXPECT_EQ(*table.render({.headers = false}), "a  1K\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({{"NAME"}, {"X"}});
  table.add_row({"größe", "1"});
  table.add_row({"12345", "2"});
  EXPECT_EQ(*table.render({.headers = false}), "größe  1\n12345  2\n");
}

TEST(Table, LetsNoNameDriveTheTerminal) {
  Table table({{"NAME"}});
  table.add_row({"a\x1b[2Jb\nc\x7f\xc2\x9b"});
  EXPECT_EQ(*table.render({.headers = false}), "a\\x1b[2Jb\\x0ac\\x7f\\x9b\n");
}

Table three_columns() {
  Table table({{"NAME"}, {"MAPPING PATH"}, {"LAST ERROR", Align::Left, false}});
  table.add_row({"a", "vol1", "none"});
  return table;
}

TEST(Table, ShowsTheColumnsThatAreAskedFor) {
  const Table table = three_columns();
  const auto shown = [&](const char* columns) {
    return *table.render({.headers = false, .columns = columns});
  };
  EXPECT_EQ(shown(""), "a  vol1\n");
  EXPECT_EQ(shown("mapping_path,name"), "vol1  a\n");
  EXPECT_EQ(shown("+last_error"), "a  vol1  none\n");
  EXPECT_EQ(shown("+last_error,-name"), "vol1  none\n");
  EXPECT_EQ(shown("-name"), "vol1\n");
}

TEST(Table, KnowsWhichColumnsThereAre) {
  const auto shown = three_columns().render({.columns = "name,size"});
  ASSERT_FALSE(shown);
  EXPECT_EQ(shown.error().code, EINVAL);
  EXPECT_EQ(shown.error().message,
            "there is no column 'size', but: name, mapping_path, last_error");
}

TEST(Table, ColoursDoNotMoveColumns) {
  Table table({{"STATE", Align::Left, true, colour_of_state}, {"NAME"}});
  table.add_row({"open", "a"});
  table.add_row({"queueing", "b"});
  table.add_row({"closed", "c"});
  EXPECT_EQ(*table.render({.headers = false, .colours = true}),
            "\x1b[32mopen\x1b[0m      a\n"
            "\x1b[33mqueueing\x1b[0m  b\n"
            "\x1b[31mclosed\x1b[0m    c\n");
  EXPECT_EQ(*table.render({.headers = false}), "open      a\nqueueing  b\nclosed    c\n");
}

TEST(Table, PathsAreRedWhenAllAreGone) {
  EXPECT_EQ(colour_of_paths("UU"), Colour::Green);
  EXPECT_EQ(colour_of_paths("U_"), Colour::Yellow);
  EXPECT_EQ(colour_of_paths("__"), Colour::Red);
  EXPECT_EQ(colour_of_paths("-"), Colour::None);
}

TEST(HumanSize, UsesPowersOf1024) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(512), "512B");
  EXPECT_EQ(human_size(1023), "1023B");
  EXPECT_EQ(human_size(1024), "1K");
  EXPECT_EQ(human_size(1536), "1.5K");
  EXPECT_EQ(human_size(10737418240), "10G");
  EXPECT_EQ(human_size((1UL << 20) - 1), "1M");
  EXPECT_EQ(human_size(~std::uint64_t{0}), "16E");
}

TEST(List, ShowsTheClientsDevices) {
  EXPECT_EQ(*list_table(two_devices(), ListKind::Client, {}),
            "DEVICE      SESSION         MAPPING PATH  STATE     MODE       IO       SIZE  PATHS  "
            "FOR  IN FLIGHT\n"
            "/dev/nbd0   blya            vol1          queueing  rw         blockio   10G  UU_    "
            "12s         84\n"
            "/dev/nbd12  a-long-session  v             closed    migration  fileio   512B  -      "
            "  -          -\n");
}

TEST(List, ShowsTheServersClientsToo) {
  EXPECT_EQ(
      *list_table(two_devices(), ListKind::Server, {.headers = false}),
      "/dev/nbd0   blya            vol1  queueing  rw         blockio   10G  UU_  -\n"
      "/dev/nbd12  a-long-session  v     closed    migration  fileio   512B  -    ip:10.0.0.2\n");
}

TEST(List, OfNothingIsItsTitles) {
  const auto nothing = control::list_result(control::Json::array());
  EXPECT_EQ(*list_table(nothing, ListKind::Client, {}),
            "DEVICE  SESSION  MAPPING PATH  STATE  MODE  IO  SIZE  PATHS  FOR  IN FLIGHT\n");
  EXPECT_EQ(*list_table(nothing, ListKind::Client, {.headers = false}), "");
}

TEST(List, ShowsAFieldThatMakesNoSenseAsMissing) {
  const auto odd = control::Json::parse(
      R"({"devices":[{"device":{"a":1},"session":null,"size_bytes":-1,"state":"open"}]})");
  EXPECT_EQ(*list_table(odd, ListKind::Client, {.headers = false}),
            "-  -  -  open  -  -  -  -  -  -\n");
}

TEST(List, ShowsPaths) {
  control::Json paths = control::Json::array();
  paths.push_back(control::to_json(control::PathEntry{.session = "blya",
                                                      .path = "ip:10.0.0.1",
                                                      .state = "connected",
                                                      .state_seconds = 7200,
                                                      .policy = "min-inflight",
                                                      .local_address = "ip:10.0.0.2",
                                                      .peer_address = "ip:10.0.0.1",
                                                      .latency_us = 21,
                                                      .in_flight = 3}));
  paths.push_back(control::to_json(control::PathEntry{.session = "blya",
                                                      .path = "ip:10.1.0.2@ip:10.1.0.1",
                                                      .state = "waiting",
                                                      .state_seconds = 1,
                                                      .failovers = 4,
                                                      .reconnects = 2,
                                                      .failed_attempts = 1,
                                                      .last_error = "the link is down"}));
  EXPECT_EQ(*paths_table(control::paths_result(paths), {}),
            "SESSION  PATH                     STATE      FOR  LATENCY  IN FLIGHT  FAILOVERS  "
            "RECONNECTS  LAST ERROR\n"
            "blya     ip:10.0.0.1              connected   2h     21us          3          0  "
            "         0  -\n"
            "blya     ip:10.1.0.2@ip:10.1.0.1  waiting     1s        -          0          4  "
            "         2  the link is down\n");
}

TEST(List, ShowsWhatPathsHaveCountedSinceTheirReset) {
  control::Json paths = control::Json::array();
  for (const char* const path : {"ip:10.0.0.1", "ip:10.1.0.1"}) {
    paths.push_back(control::to_json(control::PathEntry{
        .session = "blya", .path = path, .state = "connected", .failovers = 4, .reconnects = 2}));
  }
  paths[1]["since_reset"] = {{"seconds", 120U}, {"failovers", 1U}, {"reconnects", 0U}};
  EXPECT_EQ(*paths_table(control::paths_result(paths),
                         {.headers = true, .columns = "path,failovers,reconnects,reset"}),
            "PATH         FAILOVERS  RECONNECTS  RESET\n"
            "ip:10.0.0.1          4           2      -\n"
            "ip:10.1.0.1          1           0     2m\n");
  EXPECT_TRUE(paths_table(control::paths_result(paths), {})->contains("RESET"));
}

TEST(HumanAge, IsShort) {
  EXPECT_EQ(human_age(0), "0s");
  EXPECT_EQ(human_age(59), "59s");
  EXPECT_EQ(human_age(60), "1m");
  EXPECT_EQ(human_age(7199), "1h");
  EXPECT_EQ(human_age(47 * 3600), "47h");
  EXPECT_EQ(human_age(50 * 3600), "2d");
}

TEST(FailureText, IsOneLineAndAdviceWhereThereIsSome) {
  control::Failure failure =
      control::to_failure({EEXIST, "vol1 already mapped as /dev/nbd0 (session blya)"});
  EXPECT_EQ(failure_text("rnbd-client", "map", failure),
            "rnbd-client: map: EEXIST: vol1 already mapped as /dev/nbd0 (session blya)\n");
  failure.hint = "unmap it first";
  EXPECT_EQ(failure_text("rnbd-client", "", failure),
            "rnbd-client: EEXIST: vol1 already mapped as /dev/nbd0 (session blya)\n"
            "rnbd-client: unmap it first\n");
}

TEST(FailureText, LetsNoMessageDriveTheTerminal) {
  EXPECT_EQ(failure_text("p", "v", control::to_failure({EINVAL, "bad '\x1b[31m'"})),
            "p: v: EINVAL: bad '\\x1b[31m'\n");
}

TEST(FailureJson, HoldsAllThatAScriptNeeds) {
  const auto json = control::Json::parse(
      failure_json(control::to_failure({EBUSY, "in use\nclose it\xff first"})));
  EXPECT_EQ(json["error"]["code"], "EBUSY");
  EXPECT_EQ(json["error"]["errno"], EBUSY);
  EXPECT_EQ(json["error"]["exit"], 5);
  EXPECT_EQ(json["error"]["message"], "in use");
  EXPECT_TRUE(json["error"]["hint"].is_string());
}

}  // namespace
}  // namespace rnbd::cli
