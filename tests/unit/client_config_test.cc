// SPDX-License-Identifier: Apache-2.0
// The client daemon's configuration: its keys, drop-ins, and what mappings take from it.
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/config_file.h"
#include "client/map_words.h"
#include "unit/temp_directory.h"

namespace rnbd::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class ClientConfig : public testing::Test {
 protected:
  void write(const std::string& text, const std::string& name = {}) const {
    std::filesystem::create_directories(path_ + ".d");
    std::ofstream(name.empty() ? path_ : path_ + ".d/" + name) << text;
  }
  std::string error() {
    const auto loaded = load_config(path_, options_);
    return loaded ? "no error" : loaded.error().message;
  }
  std::string origin(const std::string& key) {
    const auto loaded = load_config(path_, options_);
    EXPECT_TRUE(loaded) << describe(loaded.error());
    for (const ConfigSetting& one : show_config(options_, *loaded)) {
      if (one.key == key) return one.value.dump() + " " + one.origin;
    }
    return "no such key";
  }
  Result<MapRequest> parse(std::vector<std::string> words) const {
    words.insert(words.end(), {"server=ip:10.0.0.1", "device_path=vol1"});
    return parse_map_words(words, "host", options_.map_defaults);
  }

  test::TempDirectory directory_;
  std::string path_ = directory_.path() / "client.toml";
  DaemonOptions options_;
};

TEST_F(ClientConfig, SetsEveryKey) {
  write(R"(
hb_interval_ms = 250
hb_missed_max = 3
mpath_policy = "rr"
max_reconnect_attempts = 7
on_no_path = "fail-after:60"
control = "/tmp/x.sock"
log_level = "debug"
slow_io_ms = 500
spin_us = 200
metrics_listen = "127.0.0.1:9871"
state_dir = "/tmp/state"
)");
  ASSERT_EQ(error(), "no error");
  EXPECT_EQ(options_.control_path, "/tmp/x.sock");
  EXPECT_EQ(options_.log_level, "debug");
  EXPECT_EQ(options_.slow_io_ms, 500U);
  EXPECT_EQ(options_.spin_us, 200U);
  EXPECT_EQ(options_.metrics_listen, "127.0.0.1:9871");
  EXPECT_EQ(options_.state_dir, "/tmp/state");
  EXPECT_EQ(options_.config_file, path_);
  const auto request = parse({});
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->hb_interval, std::chrono::milliseconds(250));
  EXPECT_EQ(request->hb_missed_max, 3U);
  EXPECT_EQ(request->policy, rtrs::PathPolicy::RoundRobin);
  EXPECT_EQ(request->max_reconnect_attempts, 7);
  EXPECT_EQ(request->fail_after, std::chrono::seconds(60));
}

TEST_F(ClientConfig, EachKeyIsSetByTheTestAbove) {
  EXPECT_THAT(config_keys(),
              ElementsAre("hb_interval_ms", "hb_missed_max", "mpath_policy",
                          "max_reconnect_attempts", "on_no_path", "control", "log_level",
                          "slow_io_ms", "spin_us", "metrics_listen", "state_dir"));
}

TEST_F(ClientConfig, WordsCountMoreThanTheFile) {
  write("on_no_path = \"fail-after:60\"\nhb_interval_ms = 250\nhb_missed_max = 3\n");
  ASSERT_EQ(error(), "no error");
  const auto request = parse({"on_no_path=queue", "hb_interval_ms=50"});
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_FALSE(request->fail_after);
  EXPECT_EQ(request->hb_interval, std::chrono::milliseconds(50));
  EXPECT_EQ(request->hb_missed_max, 3U) << "what is not said comes from the file";
}

TEST_F(ClientConfig, DropInsOverrideInTheOrderOfTheirNames) {
  write("hb_missed_max = 2\nhb_interval_ms = 20\nlog_level = \"error\"\n");
  write("hb_missed_max = 4\n", "20-later.toml");
  write("hb_missed_max = 3\nhb_interval_ms = 30\n", "10-earlier.toml");
  write("hb_missed_max = 5\n", "30-not.conf");
  write("hb_missed_max = 6\n", ".40-hidden.toml");
  EXPECT_EQ(origin("hb_missed_max"), "4 " + path_ + ".d/20-later.toml:1:1");
  EXPECT_EQ(origin("hb_interval_ms"), "30 " + path_ + ".d/10-earlier.toml:2:1");
  EXPECT_EQ(origin("log_level"), "\"error\" " + path_ + ":3:1");
  EXPECT_EQ(origin("max_reconnect_attempts"), "-1 ");
}

TEST_F(ClientConfig, NoDropInsAreFineAndNoFileIsNot) {
  std::ofstream(path_) << "hb_missed_max = 2\n";
  EXPECT_EQ(error(), "no error");
  std::filesystem::remove(path_);
  EXPECT_THAT(error(), StartsWith("cannot open "));
}

TEST_F(ClientConfig, DropInsThatCannotBeReadAreNotLeftOut) {
  std::ofstream(path_) << "hb_missed_max = 2\n";
  std::ofstream(path_ + ".d") << "no directory";
  EXPECT_EQ(error(), "cannot read " + path_ + ".d");
}

TEST_F(ClientConfig, WhatIsWrongHasItsPlace) {
  write("\nhb_missed_max = 0\n");
  EXPECT_EQ(error(), path_ + ":2:17: hb_missed_max must be 1 to 100");
  write("hb_missed_max = \"5\"\n");
  EXPECT_EQ(error(), path_ + ":1:17: hb_missed_max must be a whole number, not a string");
  write("mpath_policy = \"min-latenzy\"\n");
  EXPECT_THAT(error(), HasSubstr(":1:16: mpath_policy must be one of round-robin"));
  EXPECT_THAT(error(), HasSubstr("did you mean 'min-latency'?"));
  write("on_no_path = \"never\"\n");
  EXPECT_THAT(error(), HasSubstr("on_no_path must be queue, or fail-after:N"));
  write("");
  write("\n\nlog_levle = \"info\"\n", "10.toml");
  EXPECT_EQ(error(), path_ + ".d/10.toml:3:1: unknown key 'log_levle'; did you mean 'log_level'?");
  write("log_level = \n", "10.toml");
  EXPECT_THAT(error(), StartsWith(path_ + ".d/10.toml:1:"));
}

TEST_F(ClientConfig, AWrongFileChangesNothing) {
  write("log_level = \"debug\"\nmax_reconnect_attempts = 1\n");
  write("hb_interval_ms = 1\n", "10.toml");
  EXPECT_NE(error(), "no error");
  EXPECT_EQ(options_.log_level, "info");
  EXPECT_TRUE(options_.map_defaults.empty());
}

TEST_F(ClientConfig, ItsTextSaysTheSame) {
  write("state_dir = \"/var/lib/a \\\"b\\\"\"\non_no_path = \"fail-after:9\"\nslow_io_ms = 7\n");
  ASSERT_EQ(error(), "no error");
  const std::string text = config_text(options_);
  DaemonOptions again;
  std::ofstream(path_) << text;
  ASSERT_TRUE(load_config(path_, again));
  EXPECT_TRUE(changed_keys(options_, again).empty());
  EXPECT_EQ(again.state_dir, "/var/lib/a \"b\"");
  EXPECT_EQ(config_text({}), "") << "defaults are the program's";
}

TEST_F(ClientConfig, DifferencesAreNamed) {
  DaemonOptions other;
  EXPECT_TRUE(changed_keys(options_, other).empty());
  ASSERT_TRUE(set_default(other.map_defaults, "on_no_path", "queue"));
  EXPECT_TRUE(changed_keys(options_, other).empty()) << "that is the default";
  ASSERT_TRUE(set_default(other.map_defaults, "on_no_path", "fail-after:5"));
  other.log_level = "error";
  EXPECT_THAT(changed_keys(options_, other), ElementsAre("on_no_path", "log_level"));
}

}  // namespace
}  // namespace rnbd::client
