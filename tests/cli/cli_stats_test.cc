// SPDX-License-Identifier: Apache-2.0
// `stats` of one thing, and `stats --reset`.
#include <cerrno>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli_bench.h"

namespace rnbd::control {
namespace {

using testing::HasSubstr;
using testing::Not;

DeviceStats counted(const std::string& device, const std::string& session,
                    const std::string& mapping_path) {
  return {.device = device, .session = session, .mapping_path = mapping_path, .reads = 7};
}

class Stats : public Cli {
 protected:
  /// A daemon that answers "stats" and "paths", and notes what it has to reset.
  void serve_stats() {
    Json devices = Json::array();
    devices.push_back(to_json(counted("/dev/nbd0", "blya", "vol1")));
    devices.push_back(to_json(counted("/dev/nbd1", "blya", "vol2")));
    devices.push_back(to_json(counted("/dev/nbd2", "blub", "vol2")));
    Json paths = Json::array();
    paths.push_back(
        to_json(PathEntry{.session = "blya", .path = "ip:10.0.0.1", .policy = "min-inflight"}));
    serve({{"stats", [devices](const Json&, Reply reply) { reply(list_result(devices)); }},
           {"paths", [paths](const Json&, Reply reply) { reply(paths_result(paths)); }},
           {"reset", [this](const Json& args, Reply reply) {
              note(args.dump());
              reply(Json::object());
            }}});
  }
};

TEST_F(Stats, OfOneThingAreItsAlone) {
  serve_stats();
  EXPECT_THAT(client({"stats", "/dev/nbd1"}).out, HasSubstr("/dev/nbd1"));
  EXPECT_THAT(client({"stats", "/dev/nbd1"}).out, Not(HasSubstr("/dev/nbd0")));
  const Json json = Json::parse(client({"stats", "blya", "--json"}).out);
  EXPECT_EQ(json.at("devices").size(), 2U);
  EXPECT_EQ(json.at("schema_version"), 1);
  EXPECT_EQ(Json::parse(server({"stats", "blub/vol2", "--json"}).out).at("devices").size(), 1U);
  const Ran none = client({"stats", "nobody"});
  EXPECT_EQ(none.exit, 4);
  EXPECT_THAT(none.err, HasSubstr("rnbd-client: stats: ENOENT: no device, session or path is"));
  EXPECT_EQ(client({"stats", "vol2"}).exit, 2) << "there are two";
}

TEST_F(Stats, AreResetAllOrOneByOne) {
  serve_stats();
  const Ran ran = client({"stats", "--reset"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(client({"stats", "--reset", "/dev/nbd0"}).exit, 0);
  EXPECT_EQ(client({"stats", "--reset", "blya"}).exit, 0);
  EXPECT_EQ(client({"stats", "--reset", "ip:10.0.0.1"}).exit, 0);
  EXPECT_EQ(server({"stats", "blub", "--reset"}).exit, 0);
  EXPECT_THAT(done(),
              testing::ElementsAre(
                  "{}", R"({"devices":[{"session":"blya","mapping_path":"vol1"}],"paths":[]})",
                  R"({"devices":[{"session":"blya","mapping_path":"vol1"},)"
                  R"({"session":"blya","mapping_path":"vol2"}],)"
                  R"("paths":[{"session":"blya","path":"ip:10.0.0.1"}]})",
                  R"({"devices":[],"paths":[{"session":"blya","path":"ip:10.0.0.1"}]})",
                  R"({"devices":[{"session":"blub","mapping_path":"vol2"}],"paths":[]})"));
}

TEST_F(Stats, OfWhatIsNotThereAreNotReset) {
  serve_stats();
  const Ran ran = client({"stats", "--reset", "nobody", "--json"});
  EXPECT_EQ(ran.exit, 4);
  EXPECT_EQ(Json::parse(ran.out).at("error").at("code"), "ENOENT");
  EXPECT_EQ(server({"stats", "--reset", "ip:10.0.0.1"}).exit, 4) << "a server's have no counts";
  EXPECT_TRUE(done().empty());
}

}  // namespace
}  // namespace rnbd::control
