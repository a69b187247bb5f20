// SPDX-License-Identifier: Apache-2.0
// The protocol engine end to end over the in-memory fabric, in many orders of events, with and
// without a new key for each answer.
#include <algorithm>
#include <cerrno>
#include <tuple>

#include <gtest/gtest.h>

#include "unit/engine_bench.h"

namespace rnbd::rtrs::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Engine : public testing::TestWithParam<std::tuple<std::uint64_t, bool>> {
 protected:
  Bench bench_{std::get<0>(GetParam()), std::get<1>(GetParam())};
  Client& one_ = bench_.one;
  Client& two_ = bench_.two;
  Server& server_ = bench_.server;

  void TearDown() override {
    if (!closed_one_) bench_.close(one_);
    if (!closed_two_) bench_.close(two_);
    bench_.idle();
    EXPECT_TRUE(server_.acceptor().sessions().empty());
    server_.listener.reset();
    EXPECT_EQ(bench_.fabric.endpoints(), 0U);
    EXPECT_EQ(bench_.fabric.changed_sources(), 0U) << "memory was changed while it was on the way";
  }
  bool closed_one_ = false;
  bool closed_two_ = false;
};

INSTANTIATE_TEST_SUITE_P(Orders, Engine,
                         testing::Combine(testing::Range<std::uint64_t>(0, 25), testing::Bool()),
                         [](const auto& param) {
                           return "Seed" + std::to_string(std::get<0>(param.param)) +
                                  (std::get<1>(param.param) ? "NewKeys" : "OneKey");
                         });

TEST_P(Engine, WhatWasWrittenIsRead) {
  ASSERT_TRUE(bench_.bring_up(one_));
  const PermitId write = one_.submit(0, Direction::Write, 7, std::byte{0x5a});
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 1; }));
  EXPECT_EQ(one_.done[write], 0);
  EXPECT_EQ(server_.disk.blocks[7], std::vector<std::byte>(kBlock, std::byte{0x5a}));
  one_.release(0, write);

  const PermitId read = one_.submit(1, Direction::Read, 7, std::byte{});
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 2; }));
  EXPECT_EQ(one_.done[read], 0);
  const auto data = one_.session.queue(1).buffer(read).first(kBlock);
  EXPECT_TRUE(std::ranges::all_of(data, [](std::byte byte) { return byte == std::byte{0x5a}; }));
  one_.release(1, read);
}

TEST_P(Engine, AnErrorIsAnsweredAndHarmsNobody) {
  ASSERT_TRUE(bench_.bring_up(one_));
  const PermitId failed = one_.submit(0, Direction::Write, 1, std::byte{1}, ENOSPC);
  const PermitId also = one_.submit(1, Direction::Read, 1, std::byte{1}, EIO);
  const PermitId good = one_.submit(1, Direction::Write, 2, std::byte{2});
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 3; }));
  EXPECT_EQ(one_.done[failed], ENOSPC);
  EXPECT_EQ(one_.done[also], EIO);
  EXPECT_EQ(one_.done[good], 0);
  one_.release(0, failed);
  one_.release(1, also);
  one_.release(1, good);
  EXPECT_EQ(one_.session.permits_in_use(), 0U);
}

TEST_P(Engine, ManyRequestsOnAllQueuesAreAllAnsweredOnce) {
  ASSERT_TRUE(bench_.bring_up(one_));
  ASSERT_TRUE(bench_.bring_up(two_));
  constexpr std::size_t kRounds = 200;
  for (Client* client : {&one_, &two_}) {
    for (std::size_t queue = 0; queue < 2; ++queue) {
      for (int i = 0; i < 4; ++i) client->submit(queue, Direction::Write, 100, std::byte{1});
    }
    client->on_done = [client](PermitId permit, int error) {
      EXPECT_EQ(error, 0);
      client->release(0, permit);
      if (client->finished >= kRounds) return;
      client->submit(permit % 2, permit % 3 == 0 ? Direction::Read : Direction::Write, permit,
                     std::byte{2});
    };
  }
  ASSERT_TRUE(bench_.until(
      [&] { return one_.session.permits_in_use() == 0 && two_.session.permits_in_use() == 0; }));
  EXPECT_EQ(one_.finished, kRounds + 7);
  EXPECT_EQ(server_.disk.requests, one_.finished + two_.finished);
}

TEST_P(Engine, ASecondSessionOfOneNameIsRefused) {
  ASSERT_TRUE(bench_.bring_up(one_));
  Client twin(bench_.fabric, bench_.client_control, "one");
  // Another host's client that goes by the same name, with identifiers of its own.
  ClientSession other(
      bench_.fabric.host("three"), bench_.client_control, {&two_.workers[0], &two_.workers[1]},
      {.name = "one",
       .paths = {{.route = {.source = {},
                            .destination = {.text = bench_.fabric.host("server").address(),
                                            .port = 1234}},
                  .uuid = Client::uuid("three", 2)}},
       .session_uuid = Client::uuid("three", 1)},
      two_);
  other.start();
  for (int i = 0; i < 30 && two_.downs == 0; ++i) {
    bench_.pass(seconds(1));  // it tries a few times: the other might have been its own last life
    bench_.idle();
  }
  EXPECT_EQ(two_.downs, 1);
  EXPECT_FALSE(two_.retries);
  EXPECT_EQ(two_.ups, 0);
  bool closed = false;
  other.close([&] { closed = true; });
  ASSERT_TRUE(bench_.until([&] { return closed; }));
  twin.session.close([] {});
  bench_.idle();
  EXPECT_EQ(server_.names.size(), 1U);
}

TEST_P(Engine, RequestsSurviveALostPath) {
  ASSERT_TRUE(bench_.bring_up(one_));
  ASSERT_TRUE(bench_.bring_up(two_));
  server_.disk.hold = true;
  for (std::uint32_t i = 0; i < 5; ++i) one_.submit(i % 2, Direction::Write, i, std::byte{3});
  ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == 5; }));
  bench_.fabric.break_connections(bench_.fabric.host("one").address(),
                                  bench_.fabric.host("server").address());
  ASSERT_TRUE(bench_.until([&] { return one_.downs == 1; }));
  EXPECT_TRUE(one_.retries);
  EXPECT_EQ(one_.finished, 0U);

  // The old copies end before the server lets the session in again.
  server_.disk.hold = false;
  server_.disk.run_held();
  bench_.idle();
  for (int i = 0; i < 50 && one_.ups < 2; ++i) {
    bench_.pass(seconds(1));
    bench_.idle();
  }
  ASSERT_EQ(one_.ups, 2);
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 5; }));
  EXPECT_EQ(one_.renewed, 5U);
  for (const auto& [permit, error] : one_.done) {
    EXPECT_EQ(error, 0);
    one_.release(0, permit);
  }
  EXPECT_EQ(two_.downs, 0) << "the other client's business is its own";
}

TEST_P(Engine, ASessionComesBackWithAllItsPermitsInUse) {
  one_.says_hello = true;
  ASSERT_TRUE(bench_.bring_up(one_));
  bench_.idle();
  server_.disk.hold = true;
  std::vector<PermitId> permits(1);
  std::size_t sent = 0;
  for (; one_.session.queue(0).acquire(permits, one_); ++sent) {
    DiskMessage message;
    message.block = static_cast<std::uint32_t>(sent);
    one_.session.queue(0).submit(permits[0], Direction::Write, kBlock, bytes_of(message), one_);
  }
  one_.session.queue(0).cancel_wait(one_);
  ASSERT_GE(sent, 12U);
  ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == sent; }));
  bench_.fabric.break_connections(bench_.fabric.host("one").address(),
                                  bench_.fabric.host("server").address());
  ASSERT_TRUE(bench_.until([&] { return one_.downs == 1; }));
  server_.disk.hold = false;
  server_.disk.run_held();
  for (int i = 0; i < 50 && one_.finished < sent; ++i) {
    bench_.pass(seconds(1));
    bench_.idle();
  }
  EXPECT_EQ(one_.finished, sent);
  for (const auto& [permit, error] : one_.done) one_.release(0, permit);
}

TEST_P(Engine, ASilentServerIsNoticed) {
  ASSERT_TRUE(bench_.bring_up(one_));
  bench_.idle();
  bench_.fabric.cut(bench_.fabric.host("one").address(), bench_.fabric.host("server").address());
  auto waited = milliseconds(0);
  for (; waited < seconds(60) && one_.downs == 0; waited += milliseconds(10)) {
    bench_.pass(milliseconds(10));
    bench_.idle();
  }
  EXPECT_EQ(one_.downs, 1);
  EXPECT_GE(waited, milliseconds(500)) << "too nervous";
  EXPECT_LE(waited, milliseconds(800));
  bench_.fabric.heal(bench_.fabric.host("one").address(), bench_.fabric.host("server").address());
}

TEST_P(Engine, HeartbeatsKeepAnIdleSessionUp) {
  ASSERT_TRUE(bench_.bring_up(one_));
  for (int i = 0; i < 300; ++i) {
    bench_.pass(seconds(1));
    bench_.idle();
  }
  EXPECT_EQ(one_.downs, 0);
}

TEST_P(Engine, AnAbandonedRequestEndsWithoutItsOwner) {
  ASSERT_TRUE(bench_.bring_up(one_));
  server_.disk.hold = true;
  one_.submit(0, Direction::Read, 1, std::byte{});
  ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == 1; }));
  one_.session.queue(0).abandon(one_);
  EXPECT_EQ(one_.session.permits_in_use(), 1U) << "its buffer may still be written into";
  server_.disk.run_held();
  server_.disk.hold = false;
  bench_.idle();
  EXPECT_EQ(one_.finished, 0U);
  EXPECT_EQ(one_.session.permits_in_use(), 0U);
}

TEST_P(Engine, AClosedSessionLeavesNothingWhileItsRequestsRun) {
  ASSERT_TRUE(bench_.bring_up(one_));
  server_.disk.hold = true;
  one_.submit(0, Direction::Write, 1, std::byte{1});
  ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == 1; }));
  one_.session.queue(0).abandon(one_);
  closed_one_ = true;
  bench_.close(one_);
  bench_.idle();
  EXPECT_EQ(server_.acceptor().sessions().size(), 1U) << "the disk still uses its memory";
  server_.disk.run_held();
  bench_.idle();
  EXPECT_EQ(server_.ended, 1);
}

TEST_P(Engine, NobodyListeningIsAnError) {
  server_.listener.reset();
  one_.session.start();
  ASSERT_TRUE(bench_.until([&] { return one_.downs == 1; }));
  EXPECT_FALSE(one_.retries);
}

TEST_P(Engine, StoppingTheServerTellsItsClients) {
  ASSERT_TRUE(bench_.bring_up(one_));
  bool stopped = false;
  server_.acceptor().close([&] { stopped = true; });
  ASSERT_TRUE(bench_.until([&] { return stopped && one_.downs == 1; }));
  EXPECT_TRUE(one_.retries);
}

}  // namespace
}  // namespace rnbd::rtrs::test
