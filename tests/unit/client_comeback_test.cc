// SPDX-License-Identifier: Apache-2.0
// What a map makes of a session that loses its server at the wrong moment, and what a session waits
// for before it goes on.
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/control/verbs.h"
#include "unit/client_bench.h"

namespace rnbd::client::bench {
namespace {

using testing::HasSubstr;

constexpr unsigned kForEver = 1000;

class ClientComeback : public ClientBench {
 protected:
  /// vol1 is mapped, and stays.
  void SetUp() override { ASSERT_EQ(map(words("vol1")), "/dev/nbd0"); }

  [[nodiscard]] std::vector<std::string> words(const std::string& device) {
    return {"sessname=blya", path_word(), "device_path=" + device};
  }
  void lose_server() {
    fabric_.break_connections(fabric_.host("server").address(0), fabric_.host("client").address(0));
  }
  void keep_server_away() {
    fabric_.refuse_connects(kForEver);
    lose_server();
    settle();
  }
  void read_from_the_first() {
    PlayedSocket& socket = nbd_.devices.at(0).sockets.at(0);
    const auto tag = socket.read(0, server::test::kBlock);
    ASSERT_TRUE(until([&] { return socket[tag].answered; }));
  }
  /// The node of the mapping that `answer` is of, or why there is none.
  std::string node(const Answer& answer) {
    const auto mapped = wait(answer);
    return mapped ? *control::read_map_result(*mapped) : describe(mapped.error().error);
  }
};

TEST_F(ClientComeback, WhatIsLostWhileItIsAttachedIsMappedAnew) {
  nbd_.hold_attaches = true;
  const Answer second = begin_map(words("vol2"));
  settle();
  lose_server();
  settle();
  read_from_the_first();  // so the session is back
  nbd_.let_go();
  EXPECT_EQ(node(second), "/dev/nbd1");
  EXPECT_EQ(list().at("devices").size(), 2U);
  ASSERT_TRUE(unmap("/dev/nbd1"));
  EXPECT_EQ(server_.exports.list().size(), 1U) << "it was opened once more than closed";
}

TEST_F(ClientComeback, WhatTheServerStillDoesForNobodyIsWaitedFor) {
  ASSERT_TRUE(unmap("/dev/nbd0"));
  std::vector<std::string> two = words("vol1");
  two.push_back("path=" + fabric_.host("server").address(1));
  two.emplace_back("on_no_path=fail-after:0");
  ASSERT_EQ(map(two), "/dev/nbd0");
  const auto client = [this](std::size_t line) { return fabric_.host("client").address(line); };
  const auto server = [this](std::size_t line) { return fabric_.host("server").address(line); };
  settle();
  server_.disks.hold = true;
  const std::vector<std::byte> block(server::test::kBlock);
  PlayedSocket& socket = nbd_.devices.at(0).sockets.at(0);
  const auto given_up = socket.write(0, block);
  settle();
  ASSERT_EQ(server_.disks.operations, 1U);
  for (const std::size_t line : {0U, 1U}) fabric_.cut(client(line), server(line));
  pass(std::chrono::milliseconds(400));  // heartbeats are sent
  for (const std::size_t line : {0U, 1U}) {
    fabric_.run_out_of_retries_at(client(line), server(line));
  }
  ASSERT_TRUE(until([&] { return socket[given_up].answered; }));
  fabric_.heal(client(0), server(0));
  pass(std::chrono::milliseconds(600));
  std::vector<PlayedSocket::Tag> later;
  for (int i = 0; i < 3; ++i) later.push_back(socket.write(0, block));
  pass(std::chrono::milliseconds(600));
  EXPECT_EQ(server_.disks.operations, 1U) << "the one that was given up can land behind them";
  server_.disks.let_go();
  for (const auto tag : later) EXPECT_TRUE(until([&] { return socket[tag].answered; }));
  fabric_.heal(client(1), server(1));
}

TEST_F(ClientComeback, WhenItIsLostMakesNoDifferenceToAMap) {
  bool answered_before = false;
  int rounds = 0;
  for (; !answered_before; ++rounds) {
    const Answer second = begin_map(words("vol2"));
    for (int i = 0; i < rounds; ++i) round();
    answered_before = second->has_value();
    lose_server();
    ASSERT_EQ(node(second), "/dev/nbd1") << "lost after " << rounds << " rounds";
    read_from_the_first();  // so the session is back
    ASSERT_TRUE(unmap("/dev/nbd1"));
    ASSERT_EQ(server_.exports.list().size(), 1U) << "lost after " << rounds << " rounds";
  }
  EXPECT_GT(rounds, 4) << "OPEN goes there and back";
}

TEST_F(ClientComeback, TheOnlyDeviceOfASessionIsWaitedForAsWell) {
  ASSERT_TRUE(unmap("/dev/nbd0"));
  nbd_.hold_attaches = true;
  const Answer only = begin_map(words("vol2"));
  settle();
  keep_server_away();
  nbd_.let_go();
  pass(std::chrono::seconds(5));
  EXPECT_FALSE(only->has_value());
  fabric_.refuse_connects(0);
  EXPECT_EQ(node(only), "/dev/nbd0");
}

TEST_F(ClientComeback, WhatIsLostAgainAndAgainIsGivenUp) {
  Answer second;
  for (int i = 0; i < 6; ++i) {
    nbd_.hold_attaches = true;
    if (i == 0) second = begin_map(words("vol2"));
    ASSERT_TRUE(until([&] { return !nbd_.held.empty(); }));
    lose_server();
    settle();
    nbd_.let_go();
  }
  const auto failed = wait(second);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().error.code, ENOTCONN);
  EXPECT_THAT(failed.error().error.message, HasSubstr("being attached: connection 0: "));
  EXPECT_EQ(list().at("devices").size(), 1U);
}

TEST_F(ClientComeback, AMapWaitsForAServerThatWasLostJustNow) {
  keep_server_away();
  const Answer second = begin_map(words("vol2"));
  pass(std::chrono::seconds(5));
  EXPECT_FALSE(second->has_value());
  fabric_.refuse_connects(0);
  EXPECT_EQ(node(second), "/dev/nbd1");
}

TEST_F(ClientComeback, AMapDoesNotWaitForAServerThatStaysAway) {
  keep_server_away();
  const Answer early = begin_map(words("vol2"));
  pass(std::chrono::seconds(11));
  ASSERT_TRUE(early->has_value());
  EXPECT_THAT(node(early), HasSubstr("session blya has lost its server: "));
  const Answer late = begin_map(words("vol2"));
  settle();
  ASSERT_TRUE(late->has_value()) << "ten seconds after the loss nobody waits";
  EXPECT_EQ((*late)->error().error.code, ENOTCONN);
  EXPECT_EQ(list().at("devices").size(), 1U);
  fabric_.refuse_connects(0);
  read_from_the_first();
  EXPECT_EQ(map(words("vol2")), "/dev/nbd1");
}

TEST_F(ClientComeback, WhoIsReplacedLeavesTheWaitingToTheNext) {
  keep_server_away();
  const Answer second = begin_map(words("vol2"));
  settle();
  plane_.hand_over([] {});
  settle();
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->error().error.code, control::kBeingReplaced) << "the program asks him";
}

TEST_F(ClientComeback, WhoStopsWaitsForNobody) {
  keep_server_away();
  const Answer second = begin_map(words("vol2"));
  settle();
  bool stopped = false;
  plane_.stop([&] { stopped = true; });
  settle();
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->error().error.code, ESHUTDOWN);
  EXPECT_TRUE(until([&] { return stopped; }));
}

}  // namespace
}  // namespace rnbd::client::bench
