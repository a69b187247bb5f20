// SPDX-License-Identifier: Apache-2.0
// The server daemon's options and its configuration file.
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/client_limits.h"
#include "server/config_file.h"
#include "server/daemon_options.h"
#include "unit/temp_directory.h"

namespace rnbd::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

class ConfigFile : public testing::Test {
 protected:
  Result<ConfigOrigins> load(const std::string& text) {
    std::ofstream(path_) << text;
    return load_config(path_, options_);
  }

  /// The message behind "FILE", so that positions can be compared.
  std::string error_of(const std::string& text) {
    const auto loaded = load(text);
    if (loaded) return "no error";
    EXPECT_EQ(loaded.error().code, EINVAL);
    EXPECT_EQ(loaded.error().message.substr(0, path_.size()), path_);
    return loaded.error().message.substr(path_.size());
  }

  test::TempDirectory directory_;
  std::string path_ = directory_.path() / "server.toml";
  DaemonOptions options_;
};

TEST(ServerOptions, DefaultsAreTheKernels) {
  const DaemonOptions options;
  EXPECT_TRUE(check(options));
  EXPECT_EQ(options.port_nr, 1234);
  EXPECT_EQ(options.sess_queue_depth, 512U);
  EXPECT_EQ(options.max_io_size + kChunkHeader, 131072U);
  EXPECT_EQ(session_memory(options), 64UL << 20);
  EXPECT_TRUE(options.always_invalidate);
}

TEST(ServerOptions, BoundsEachNumber) {
  EXPECT_TRUE(check_port_nr(1));
  EXPECT_TRUE(check_port_nr(65535));
  EXPECT_FALSE(check_port_nr(0));
  EXPECT_FALSE(check_port_nr(65536));
  EXPECT_TRUE(check_sess_queue_depth(1));
  EXPECT_TRUE(check_sess_queue_depth(65535));
  EXPECT_FALSE(check_sess_queue_depth(0));
  EXPECT_FALSE(check_sess_queue_depth(65536));
  EXPECT_FALSE(check_sess_queue_depth(-1));
  EXPECT_TRUE(check_max_io_size(4096));
  EXPECT_FALSE(check_max_io_size(0));
  EXPECT_FALSE(check_max_io_size(4097));
  EXPECT_FALSE(check_max_io_size(-4096));
  EXPECT_FALSE(check_max_io_size(std::int64_t{1} << 40));
  EXPECT_TRUE(check_hb_interval(10));
  EXPECT_TRUE(check_hb_interval(60000));
  EXPECT_FALSE(check_hb_interval(9));
  EXPECT_FALSE(check_hb_interval(60001));
  EXPECT_TRUE(check_hb_missed_max(1));
  EXPECT_TRUE(check_hb_missed_max(100));
  EXPECT_FALSE(check_hb_missed_max(0));
  EXPECT_FALSE(check_hb_missed_max(101));
}

TEST_F(ConfigFile, TakesTheHeartbeats) {
  ASSERT_TRUE(load("hb_interval_ms = 250\nhb_missed_max = 3\n"));
  EXPECT_EQ(options_.hb_interval_ms, 250U);
  EXPECT_EQ(options_.hb_missed_max, 3U);
  EXPECT_THAT(error_of("hb_interval_ms = 1\n"), HasSubstr("must be 10 to 60000"));
}

TEST_F(ConfigFile, TakesWhatIsToBeSeenFromOutside) {
  ASSERT_TRUE(load("slow_io_ms = 250\nmetrics_listen = \"unix:/run/rnbd/m.sock\"\n"));
  EXPECT_EQ(options_.slow_io_ms, 250U);
  EXPECT_EQ(options_.metrics_listen, "unix:/run/rnbd/m.sock");
  EXPECT_TRUE(check(options_));
  options_.metrics_listen = "0.0.0.0:1";
  EXPECT_FALSE(check(options_));
  ASSERT_TRUE(load("spin_us = 0\n"));
  EXPECT_EQ(options_.spin_us, 0U);
  EXPECT_EQ(error_of("spin_us = 100001"), ":1:11: spin_us must be 0 to 100000, not 100001");
  EXPECT_EQ(error_of("slow_io_ms = -1"), ":1:14: slow_io_ms must be 0 to 3600000, not -1");
  EXPECT_THAT(error_of("metrics_listen = \"x\""),
              HasSubstr("metrics_listen must be 127.0.0.1:PORT"));
}

TEST(ServerOptions, ShareTheImmediatesBits) {
  // 512 and 128 KiB are 9 and 17 bits, two to spare.
  EXPECT_TRUE(check_immediate(2048, 126976));
  EXPECT_FALSE(check_immediate(2049, 126976));
  EXPECT_TRUE(check_immediate(512, 524288 - 4096));
  EXPECT_FALSE(check_immediate(512, 524288));
  EXPECT_TRUE(check_immediate(1, (1U << 28) - 4096));
  EXPECT_TRUE(check_immediate(32768, 4096));
  EXPECT_FALSE(check_immediate(32769, 4096));
}

TEST(ServerOptions, SayWhatWouldFit) {
  EXPECT_THAT(check_immediate(4096, 126976).error().message,
              EndsWith("at most 2048 with this max_io_size, or 61440 with this sess_queue_depth"));
  EXPECT_THAT(check_immediate(65535, 4096).error().message,
              EndsWith("at most 32768 with this max_io_size"));
}

TEST(ServerOptions, CheckRefusesWhatItsPartsRefuse) {
  DaemonOptions options;
  options.log_level = "loud";
  EXPECT_THAT(check(options).error().message, HasSubstr("debug, info, warning, error"));
  options = {};
  options.dev_search_path = "exports";
  EXPECT_FALSE(check(options));
  options = {};
  options.control_path = std::string(108, 'x');
  EXPECT_FALSE(check(options));
  options = {};
  options.sess_queue_depth = 4096;
  EXPECT_FALSE(check(options));
}

TEST_F(ConfigFile, SetsEveryOption) {
  const auto loaded = load(R"(
port_nr = 4321
dev_search_path = "/dev/exports/%SESSNAME%"
sess_queue_depth = 128
max_io_size = 1044480
always_invalidate = false
control = "/tmp/x.sock"
log_level = "debug"
)");
  ASSERT_TRUE(loaded) << describe(loaded.error());
  EXPECT_EQ(options_.port_nr, 4321);
  EXPECT_EQ(options_.dev_search_path, "/dev/exports/%SESSNAME%");
  EXPECT_EQ(options_.sess_queue_depth, 128U);
  EXPECT_EQ(options_.max_io_size, 1044480U);
  EXPECT_FALSE(options_.always_invalidate);
  EXPECT_EQ(options_.control_path, "/tmp/x.sock");
  EXPECT_EQ(options_.log_level, "debug");
  EXPECT_EQ(options_.config_file, path_);
}

TEST_F(ConfigFile, LeavesWhatItDoesNotSet) {
  ASSERT_TRUE(load("port_nr = 4321\n"));
  EXPECT_EQ(options_.sess_queue_depth, 512U);
  ASSERT_TRUE(load(""));
}

TEST_F(ConfigFile, PointsAtAnUnknownKeyAndTheNearest) {
  EXPECT_EQ(error_of("port_nr = 1\n  sess_que_depth = 5\n"),
            ":2:3: unknown key 'sess_que_depth'; did you mean 'sess_queue_depth'?");
  EXPECT_EQ(error_of("[server]\nport_nr = 1\n"), ":1:2: unknown key 'server'");
}

TEST_F(ConfigFile, PointsAtAValueOfTheWrongType) {
  EXPECT_EQ(error_of("\nport_nr = \"1234\"\n"),
            ":2:11: port_nr must be a whole number, not a string");
  EXPECT_EQ(error_of("always_invalidate = 1"),
            ":1:21: always_invalidate must be true or false, not a whole number");
  EXPECT_EQ(error_of("dev_search_path = true"),
            ":1:19: dev_search_path must be a string, not true or false");
  EXPECT_EQ(error_of("max_io_size = 1.5"),
            ":1:15: max_io_size must be a whole number, not a number with a fraction");
  EXPECT_EQ(error_of("port_nr = 2026-01-01"),
            ":1:11: port_nr must be a whole number, not a date or time");
  EXPECT_EQ(error_of("port_nr = {}"), ":1:11: port_nr must be a whole number, not a table");
  EXPECT_EQ(error_of("port_nr = [1]"), ":1:11: port_nr must be a whole number, not an array");
  EXPECT_EQ(error_of("port_nr = [[]]"), ":1:11: port_nr must be a whole number, not an array");
  EXPECT_EQ(error_of("port_nr = []"), ":1:11: port_nr must be a whole number, not an array");
  EXPECT_THAT(error_of("export = [1, \"a\"]"),
              HasSubstr("must be tables, [[export]], not an array"));
  EXPECT_THAT(error_of("[[export]]\nname = 1\n"), HasSubstr(":2:8: name must be a string"));
  EXPECT_THAT(error_of("[[export]]\naccess = 1\n"), HasSubstr(":2:10: access must be a string"));
}

TEST_F(ConfigFile, WhatIsShownCanBeReadAgain) {
  const std::string text = R"(port_nr = 4321
dev_search_path = "/dev/exports/%SESSNAME%"
sess_queue_depth = 128
max_io_size = 1044480
always_invalidate = false
hb_interval_ms = 250
hb_missed_max = 3
slow_io_ms = 7
spin_us = 70
metrics_listen = "127.0.0.1:9870"
control = "/run/x.sock"
log_level = "error"
state_dir = "/var/x"
max_sessions = 11
max_sessions_per_client = 12
max_paths = 13
max_paths_per_client = 14
max_connections = 15
max_connections_per_client = 16
max_memory_mib = 1017
max_memory_mib_per_client = 1018
)";
  const auto loaded = load(text);
  ASSERT_TRUE(loaded) << describe(loaded.error());
  std::string shown;
  for (const ConfigSetting& one : show_config(options_, *loaded)) {
    if (one.key == "export") continue;
    shown += one.key + " = " + one.value.dump() + "\n";
    EXPECT_THAT(one.origin, testing::StartsWith(path_ + ":"));
  }
  EXPECT_EQ(shown, text);
}

TEST_F(ConfigFile, EveryKeyIsShownAboveButExports) { EXPECT_EQ(config_keys().size(), 22U); }

TEST_F(ConfigFile, LimitsHaveBoundsOfTheirOwn) {
  EXPECT_EQ(error_of("max_sessions = 0"), ":1:16: max_sessions must be 1 to 16777216, not 0");
  EXPECT_EQ(error_of("max_memory_mib = -1"), ":1:18: max_memory_mib must be 0 to 16777216, not -1");
  EXPECT_TRUE(load("max_memory_mib = 0\nmax_paths_per_client = 1\n"));
  EXPECT_EQ(options_.limits.paths_per_client, 1U);
}

TEST(ServerOptions, LimitsOfMemoryHoldASession) {
  DaemonOptions options;
  options.limits.memory_mib = 63;
  EXPECT_THAT(check(options).error().message,
              HasSubstr("max_memory_mib 63 is too small for one session, which pins 64 MiB"));
  options.limits.memory_mib = 64;
  EXPECT_TRUE(check(options));
  options.limits.memory_mib_per_client = 1;
  EXPECT_FALSE(check(options));
  options.limits.memory_mib_per_client = 0;
  options.limits.sessions = 0;
  EXPECT_FALSE(check(options));
}

TEST(ServerOptions, LimitsFollowTheHostsMemoryUnlessTheyAreGiven) {
  DaemonOptions options;
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  EXPECT_EQ(client_limits(options, 8 * kGiB).all.memory, 4 * kGiB);
  EXPECT_EQ(client_limits(options, 8 * kGiB).client.memory, 3 * kGiB);
  EXPECT_EQ(client_limits(options, kGiB / 8).client.memory, kGiB / 16) << "one session";
  options.limits.memory_mib = 1024;
  EXPECT_EQ(client_limits(options, 8 * kGiB).all.memory, kGiB);
  options.limits.memory_mib_per_client = 100;
  options.limits.sessions_per_client = 5;
  EXPECT_EQ(client_limits(options, 8 * kGiB).client.memory, 100U << 20);
  EXPECT_EQ(client_limits(options, 8 * kGiB).client.sessions, 5U);
}

TEST_F(ConfigFile, PointsAtAValueOutOfRange) {
  EXPECT_EQ(error_of("port_nr = 70000"), ":1:11: port_nr must be 1 to 65535, not 70000");
  EXPECT_EQ(error_of("sess_queue_depth = -1"),
            ":1:20: sess_queue_depth must be 1 to 65535, not -1");
  EXPECT_THAT(error_of("log_level = \"warn\""), EndsWith("not 'warn'; did you mean 'warning'?"));
}

TEST_F(ConfigFile, PointsAtBrokenSyntax) {
  EXPECT_THAT(error_of("port_nr = 1\nlog_level = \n"), testing::StartsWith(":2:"));
  EXPECT_THAT(error_of("port_nr = 1\nport_nr = 2\n"), testing::StartsWith(":2:"));
}

TEST_F(ConfigFile, ChangesNothingWhenItFails) {
  EXPECT_FALSE(load("always_invalidate = false\nport_nr = 0\n"));
  EXPECT_TRUE(options_.always_invalidate);
  EXPECT_TRUE(options_.config_file.empty());
}

TEST_F(ConfigFile, SaysWhyItCannotBeRead) {
  const auto missing = load_config(path_ + ".none", options_);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENOENT);
  const auto folder = load_config(directory_.path().string(), options_);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, EISDIR);
  const auto endless = load_config("/dev/zero", options_);
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().code, EFBIG);
}

TEST_F(ConfigFile, TakesExportsByName) {
  ASSERT_TRUE(load(R"(
[[export]]
name = "vol1"
path = "/dev/vg/vol1"
[[export]]
name = "vol2"
path = "/dev/vg/vol2"
access = "ro"
)"));
  ASSERT_EQ(options_.exports.size(), 2U);
  EXPECT_EQ(options_.exports[0].path, "/dev/vg/vol1");
  EXPECT_FALSE(options_.exports[0].read_only);
  EXPECT_TRUE(options_.exports[1].read_only);
}

TEST_F(ConfigFile, SaysWhatIsWrongWithAnExport) {
  EXPECT_EQ(error_of("[[export]]\nname = \"a\"\n"), ":2:1: an export without a path");
  EXPECT_THAT(error_of("[[export]]\n"), HasSubstr("an export without a name"));
  EXPECT_EQ(error_of("[[export]]\nnmae = \"a\"\n"),
            ":2:1: unknown key 'nmae' of an export; did you mean 'name'?");
  EXPECT_EQ(error_of("[[export]]\nname = \"a\"\npath = \"b\"\n"),
            ":3:8: path must begin with '/', not be 'b'");
  EXPECT_THAT(error_of("[[export]]\nname = \"a\"\npath = \"/b\"\naccess = \"rx\"\n"),
              HasSubstr(":4:10: access must be rw or ro"));
  EXPECT_THAT(error_of("[[export]]\nname=\"a\"\npath=\"/b\"\n[[export]]\nname=\"a\"\npath=\"/c\""),
              HasSubstr(":5:1: two exports are called 'a'"));
  EXPECT_THAT(error_of("export = 3\n"), HasSubstr(":1:10: export must be tables, [[export]]"));
}

TEST_F(ConfigFile, DropInsAddExportsAndReplaceThemByName) {
  std::filesystem::create_directory(path_ + ".d");
  std::ofstream(path_ + ".d/10.toml") << "port_nr = 2\n[[export]]\nname=\"a\"\npath=\"/new\"\n"
                                      << "[[export]]\nname=\"c\"\npath=\"/c\"\n";
  ASSERT_TRUE(
      load("port_nr = 1\nhb_missed_max = 9\n[[export]]\nname=\"a\"\npath=\"/a\"\n"
           "[[export]]\nname=\"b\"\npath=\"/b\"\n"));
  EXPECT_EQ(options_.port_nr, 2);
  EXPECT_EQ(options_.hb_missed_max, 9U);
  ASSERT_EQ(options_.exports.size(), 3U);
  EXPECT_EQ(options_.exports[1].path, "/new");
}

TEST_F(ConfigFile, DifferencesAreNamed) {
  DaemonOptions other;
  other.port_nr = 99;
  other.exports = {{.name = "a", .path = "/a", .read_only = false}};
  EXPECT_THAT(changed_keys(options_, other), testing::ElementsAre("port_nr", "export"));
}

}  // namespace
}  // namespace rnbd::server
