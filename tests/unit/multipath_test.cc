// SPDX-License-Identifier: Apache-2.0
// Sessions with two paths over the in-memory fabric: choosing, losing, fencing and getting back.
#include <algorithm>
#include <array>
#include <cerrno>
#include <tuple>

#include <gtest/gtest.h>

#include "unit/engine_bench.h"

namespace rnbd::rtrs::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string order_name(const testing::TestParamInfo<std::tuple<std::uint64_t, bool>>& info) {
  return "Seed" + std::to_string(std::get<0>(info.param)) +
         (std::get<1>(info.param) ? "NewKeys" : "OneKey");
}

/// The next process of the bench's first client, which has been killed: that one does not move
/// while this one's until() runs.
struct Successor {
  Successor(Bench& bench, std::vector<PermitId> held,
            SessionCore::MakeMemory make_memory = MemoryBlock::map)
      : network(bench.fabric),
        client(bench.fabric, control, "one", 2, PathPolicy::MinInflight,
               ResumedSession{.parameters = bench.server.parameters(),
                              .held_permits = std::move(held)},
               std::move(make_memory)),
        contexts{&bench.server.control.context(),
                 &bench.server.workers[0],
                 &bench.server.workers[1],
                 &control.context(),
                 &client.workers[0],
                 &client.workers[1]} {}

  bool until(const std::function<bool()>& condition) {
    for (int i = 0; i < 600; ++i) {
      if (turn(condition)) return true;
      for (sim::ManualContext* const context : contexts) context->advance(milliseconds(10));
    }
    return condition();
  }
  void settle() {
    turn([] { return false; });
  }

  sim::Network& network;
  sim::ManualControl control;
  Client client;
  std::array<sim::ManualContext*, 6> contexts;

 private:
  bool turn(const std::function<bool()>& condition) {
    const auto& [a, b, c, d, e, f] = contexts;
    return sim::run_until(condition, {a, b, c, d, e, f}, network);
  }
};

class Multipath : public testing::TestWithParam<std::tuple<std::uint64_t, bool>> {
 protected:
  void SetUp() override {
    one_.session.start();
    ASSERT_TRUE(bench_.until([&] { return both_up(); }));
  }
  void TearDown() override {
    if (!closed_) bench_.close(one_);
    bench_.close(bench_.two);
    bench_.idle();
    EXPECT_TRUE(server_.acceptor().sessions().empty());
    server_.listener.reset();
    EXPECT_EQ(bench_.fabric.endpoints(), 0U);
    EXPECT_EQ(bench_.fabric.changed_sources(), 0U) << "memory was changed while it was on the way";
  }

  [[nodiscard]] const PathKeeper& path(std::size_t index) const {
    return *one_.session.paths()[index];
  }
  [[nodiscard]] bool both_up() const { return path(0).connected() && path(1).connected(); }
  [[nodiscard]] std::uint32_t in_flight(std::size_t index) const {
    return one_.session.in_flight(path(index));
  }
  bool wait(const std::function<bool()>& condition, milliseconds limit = seconds(60)) {
    for (auto waited = milliseconds(0); waited < limit; waited += milliseconds(10)) {
      if (bench_.until(condition)) return true;
      bench_.pass(milliseconds(10));
    }
    return condition();
  }
  /// `count` writes whose execution is held back, on both paths.
  void submit_held(std::uint32_t count) {
    server_.disk.hold = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      one_.submit(i % 2, Direction::Write, i, static_cast<std::byte>(i + 1));
    }
    ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == count; }));
    ASSERT_GT(in_flight(0), 0U);
    ASSERT_GT(in_flight(1), 0U);
  }
  void run_held() {
    server_.disk.hold = false;
    server_.disk.run_held();
  }
  void release_all() {
    for (const auto& [permit, error] : one_.done) {
      EXPECT_EQ(error, 0);
      one_.release(0, permit);
    }
    one_.done.clear();
    EXPECT_EQ(one_.session.permits_in_use(), 0U);
  }

  Bench bench_{std::get<0>(GetParam()), std::get<1>(GetParam()), 16, 2};
  Client& one_ = bench_.one;
  Server& server_ = bench_.server;
  bool closed_ = false;  ///< the first client's session, by the test
};

INSTANTIATE_TEST_SUITE_P(Orders, Multipath,
                         testing::Combine(testing::Range<std::uint64_t>(0, 25), testing::Bool()),
                         order_name);

TEST_P(Multipath, AllPathsAreOneSessionOfTheServer) {
  ASSERT_EQ(server_.acceptor().sessions().size(), 1U);
  EXPECT_EQ(server_.acceptor().sessions().front()->paths().size(), 2U);
  EXPECT_EQ(server_.names, std::vector<std::string>{"one"});
  EXPECT_EQ(one_.ups, 1);
}

TEST_P(Multipath, WhatHasChangedAtTheServerIsToldOnce) {
  server_.acceptor().sessions().front()->raise_generation();
  ASSERT_TRUE(bench_.until([&] { return one_.changes == 1; }));
  bench_.pass(seconds(2));  // heartbeats of both paths repeat it
  EXPECT_EQ(one_.changes, 1);
  EXPECT_EQ(bench_.two.changes, 0);
  bench_.cut(0);
  bench_.cut(1);
  server_.acceptor().sessions().front()->raise_generation();
  bench_.heal(1);
  ASSERT_TRUE(wait([&] { return one_.changes == 2; }))
      << "a heartbeat that comes late tells it too";
  bench_.heal(0);
  ASSERT_TRUE(wait([&] { return both_up(); }));
  bench_.pass(seconds(2));
  EXPECT_EQ(one_.changes, 2);
}

TEST_P(Multipath, RequestsUseBothPaths) {
  submit_held(8);
  EXPECT_EQ(in_flight(0), 4U);
  EXPECT_EQ(in_flight(1), 4U);
  run_held();
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 8; }));
  release_all();
}

// A process was killed, and the next one goes on: to the server the paths are still those of the
// first, and what it sent over one of them has yet to arrive.
TEST_P(Multipath, ASuccessorSendsNothingUntilTheServerHasEndedAllFormerLives) {
  bench_.cut(1);
  const std::vector former = {one_.submit(0, Direction::Write, 0, std::byte{1}),
                              one_.submit(0, Direction::Write, 1, std::byte{1})};
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 1; }));
  const std::uint32_t late = server_.disk.blocks.contains(0) ? 1 : 0;

  Successor successor(bench_, former);
  Client& next = successor.client;
  const auto until = [&](const auto& condition) { return successor.until(condition); };
  ASSERT_TRUE(next.session.start());
  ASSERT_TRUE(until([&] { return next.ups == 1; }));
  next.submit(0, Direction::Write, late, std::byte{2});
  ASSERT_TRUE(until([&] { return next.finished == 1; }));
  bench_.heal(1);
  ASSERT_TRUE(until([&] {
    return std::ranges::all_of(next.session.paths(), [](auto& one) { return one->connected(); });
  }));
  EXPECT_EQ(server_.disk.blocks[late], std::vector(kBlock, std::byte{2}));
  EXPECT_EQ(server_.disk.requests, 2U);

  for (const auto& [permit, error] : next.done) next.release(0, permit);
  for (const PermitId permit : former) next.release(0, permit);
  bool closed = false;
  next.session.close([&] { closed = true; });
  ASSERT_TRUE(until([&] { return closed; }));
  ASSERT_TRUE(wait([&] { return one_.finished == 2; }));  // it was not killed, after all
  release_all();
}

class Inheritance : public Multipath {
 protected:
  /// Eight writes are being executed for a process that is no more. The next one goes on with
  /// `held` of their permits and gives them back; no chunk may be used again before it is free.
  void inherit(std::size_t held) {
    server_.disk.hold = true;
    std::vector<PermitId> permits;
    std::uint64_t used = 0;
    for (std::uint32_t i = 0; i < 8; ++i) {
      permits.push_back(one_.submit(i % 2, Direction::Write, i, std::byte{1}));
      used |= std::uint64_t{1} << permits.back();
    }
    ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == 8; }));
    permits.resize(held);
    Successor successor(bench_, permits, [used](std::size_t bytes) {
      auto memory = MemoryBlock::map(bytes);
      store(memory->bytes().last(4096), used, 0);  // the bitmap has a page behind the buffers
      return memory;
    });
    Client& next = successor.client;
    const auto until = [&](const auto& condition) { return successor.until(condition); };
    ASSERT_TRUE(next.session.start());
    for (const PermitId permit : permits) next.release(0, permit);
    ASSERT_TRUE(until([&] { return next.ups == 1; }));
    successor.settle();
    EXPECT_EQ(next.session.permits_in_use(), 8U);
    run_held();
    ASSERT_TRUE(until([&] { return next.session.permits_in_use() == 0; }));
    EXPECT_EQ(server_.disk.executed, 8U);

    bool closed = false;
    next.session.close([&] { closed = true; });
    ASSERT_TRUE(until([&] { return closed; }));
    ASSERT_TRUE(wait([&] { return one_.finished == 8; }));  // it was not killed, after all
    release_all();
  }
};

INSTANTIATE_TEST_SUITE_P(Orders, Inheritance,
                         testing::Combine(testing::Range<std::uint64_t>(0, 25), testing::Bool()),
                         order_name);

// What no journal speaks of: a partition table that was being read, say.
TEST_P(Inheritance, ChunksThatTheServerStillUsesAreLeftAlone) { inherit(0); }

// What a journal speaks of, of a device that is unmapped by force before anything is sent again.
TEST_P(Inheritance, SoAreThoseThatAreGivenBackUnused) { inherit(8); }

TEST_P(Multipath, ALostPathsRequestsGoOnOverTheOther) {
  submit_held(8);
  bench_.break_line(0);
  ASSERT_TRUE(wait([&] { return path(0).stats().failovers == 4; }));
  run_held();
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 8; }));
  EXPECT_EQ(one_.downs, 0) << "the session never was without a path";
  EXPECT_EQ(one_.renewed, 0U) << "nor did the server forget what was open";
  EXPECT_EQ(server_.disk.requests, 12U) << "what both ends may have lost was executed twice";
  for (std::uint32_t i = 0; i < 8; ++i) {
    EXPECT_EQ(server_.disk.blocks[i],
              std::vector<std::byte>(kBlock, static_cast<std::byte>(i + 1)));
  }
  release_all();
  ASSERT_TRUE(wait([&] { return both_up(); }));
  EXPECT_EQ(path(0).reconnects(), 1U);
  EXPECT_EQ(path(1).reconnects(), 0U);
}

TEST_P(Multipath, APathThatCameBackIsUsedAsBefore) {
  for (std::size_t round = 0; round < 6; ++round) {
    submit_held(8);
    if (HasFatalFailure()) return;
    const std::size_t line = round % 2;
    bench_.break_line(line);
    ASSERT_TRUE(wait([&] { return !path(line).connected(); }));
    run_held();
    ASSERT_TRUE(wait([&] { return one_.finished == 8 && both_up(); }));
    release_all();
    one_.finished = 0;
  }
  EXPECT_EQ(path(0).reconnects(), 3U);
  EXPECT_EQ(path(1).reconnects(), 3U);
}

TEST_P(Multipath, ASecondCopyWaitsForTheFirst) {
  submit_held(8);
  bench_.break_line(0);
  ASSERT_TRUE(wait([&] { return path(0).stats().failovers == 4; }));
  bench_.idle();
  EXPECT_EQ(server_.disk.requests, 8U) << "a second copy ran beside the first";
  EXPECT_EQ(one_.finished, 0U);
  run_held();
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 8; }));
  EXPECT_EQ(server_.disk.requests, 12U);
  release_all();
}

// Were its permit free any earlier, the first copy's data would meet the next request in the chunk.
TEST_P(Multipath, AnAbandonedRequestOfALostPathKeepsItsPermitUntilTheServerHasEndedIt) {
  submit_held(8);
  for (const std::size_t queue : {0U, 1U}) one_.session.queue(queue).abandon(one_);
  bench_.break_line(0);
  ASSERT_TRUE(wait([&] { return path(0).stats().failovers == 4; }));
  bench_.idle();
  EXPECT_EQ(one_.session.permits_in_use(), 8U);
  run_held();
  ASSERT_TRUE(wait([&] { return one_.session.permits_in_use() == 0; }));
  EXPECT_EQ(server_.disk.executed, 8U) << "what was given up was done again";
  EXPECT_EQ(one_.finished, 0U);
}

TEST_P(Multipath, SoDoesOneThatIsAbandonedWhileItWaitsForAPath) {
  submit_held(8);
  bench_.cut(0);
  bench_.cut(1);
  ASSERT_TRUE(wait([&] { return one_.downs == 1; }));
  one_.submit(0, Direction::Write, 8, std::byte{9});
  bench_.pass(seconds(3));
  for (const std::size_t queue : {0U, 1U}) one_.session.queue(queue).abandon(one_);
  EXPECT_EQ(one_.session.permits_in_use(), 8U) << "only one was never sent";
  bench_.heal(1);
  ASSERT_TRUE(wait([&] { return one_.ups == 2; }));
  bench_.idle();
  EXPECT_GT(one_.session.permits_in_use(), 0U);
  run_held();
  ASSERT_TRUE(wait([&] { return one_.session.permits_in_use() == 0; }));
  EXPECT_EQ(server_.disk.executed, 8U) << "what was given up was done again";
  EXPECT_EQ(one_.finished, 0U);
  bench_.heal(0);
}

TEST_P(Multipath, ASilentPathIsLostAndFenced) {
  submit_held(8);
  bench_.cut(0);  // nobody is told, and the server goes on believing in the path
  ASSERT_TRUE(wait([&] { return path(0).stats().failovers == 4; }));
  run_held();
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 8; }));
  EXPECT_EQ(one_.downs, 0);
  release_all();
  bench_.heal(0);
  ASSERT_TRUE(wait([&] { return both_up(); }));
}

TEST_P(Multipath, NothingIsSentAgainBeforeTheServerHasEndedTheOldLife) {
  submit_held(8);
  bench_.cut(0);
  bool fenced = true;
  const ServerSession& session = *server_.acceptor().sessions().front();
  ASSERT_TRUE(wait([&] {
    const bool alive = std::ranges::any_of(session.paths(), [&](const auto& one) {
      return one->peer_address() == bench_.near(0) && !one->over();
    });
    if (alive && path(0).stats().failovers > 0) fenced = false;
    return path(0).stats().failovers == 4;
  }));
  EXPECT_TRUE(fenced);
  run_held();
  ASSERT_TRUE(bench_.until([&] { return one_.finished == 8; }));
  release_all();
  bench_.heal(0);
}

TEST_P(Multipath, RequestsWaitWhileNoPathIsLeft) {
  submit_held(8);
  bench_.cut(0);
  bench_.cut(1);
  ASSERT_TRUE(wait([&] { return one_.downs == 1; }));
  EXPECT_TRUE(one_.retries);
  one_.submit(0, Direction::Write, 8, std::byte{9});
  bench_.pass(seconds(3));
  bench_.idle();
  EXPECT_EQ(one_.finished, 0U);
  bench_.heal(1);
  ASSERT_TRUE(wait([&] { return one_.ups == 2; }));
  run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 9; }));
  EXPECT_EQ(one_.renewed, 9U);
  bench_.heal(0);
  ASSERT_TRUE(wait([&] { return both_up(); }));
  release_all();
}

TEST_P(Multipath, AServerThatIsStartedAnewIsJoinedByAllPaths) {
  submit_held(4);
  bool stopped = false;
  server_.acceptor().close([&] { stopped = true; });
  run_held();
  ASSERT_TRUE(bench_.until([&] { return stopped && one_.downs == 1; }));
  server_.restart();
  ASSERT_TRUE(wait([&] { return both_up() && one_.finished == 4; }));
  EXPECT_EQ(one_.ups, 2);
  EXPECT_EQ(server_.acceptor().sessions().size(), 1U);
  release_all();
}

// What administrators do.

TEST_P(Multipath, ADrainedPathLosesNothing) {
  submit_held(8);
  PathKeeper& first = *one_.session.paths()[0];
  bool drained = false;
  first.drain([&](const Status& status) { drained = status.has_value(); });
  bench_.idle();
  one_.submit(0, Direction::Write, 8, std::byte{9});
  one_.submit(1, Direction::Write, 9, std::byte{9});
  ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == 10; }));
  EXPECT_EQ(in_flight(0), 4U) << "new requests take the other path";
  EXPECT_EQ(in_flight(1), 6U);
  EXPECT_FALSE(drained);
  EXPECT_FALSE(one_.session.can_do_without(path(1)));
  run_held();
  ASSERT_TRUE(wait([&] { return drained && path(0).state() == KeeperState::Down; }));
  EXPECT_EQ(path(0).stats().failovers, 0U) << "nothing had to be sent again";
  EXPECT_EQ(one_.finished, 10U);
  bench_.pass(seconds(5));
  bench_.idle();
  EXPECT_EQ(path(0).state(), KeeperState::Down) << "it stays down until somebody wants it up";
  bool up = false;
  first.reconnect([&](const Status& status) { up = status.has_value(); });
  ASSERT_TRUE(wait([&] { return up && both_up(); }));
  release_all();
}

TEST_P(Multipath, ADisconnectedPathsRequestsGoOnOverTheOther) {
  submit_held(8);
  one_.session.paths()[0]->disconnect({ECANCELED, "by hand"});
  ASSERT_TRUE(wait([&] { return path(0).stats().failovers == 4; }));
  run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 8; }));
  EXPECT_EQ(path(0).state(), KeeperState::Down);
  EXPECT_EQ(one_.downs, 0);
  release_all();
}

TEST_P(Multipath, TheOnlyPathConnectedAnewIsAnotherLifeOfTheSession) {
  one_.session.paths()[1]->disconnect({ECANCELED, "test"});
  ASSERT_TRUE(wait([&] { return path(1).state() == KeeperState::Down; }));
  const int ups = one_.ups;
  one_.session.paths()[0]->reconnect([](const Status&) {});  // its first attempt may be too early
  ASSERT_TRUE(wait([&] { return one_.ups == ups + 1; }));
  EXPECT_EQ(one_.downs, 1) << "what was open must be opened again";
}

TEST_P(Multipath, WhatIsAskedOfAServerThatIsAwayFailsAtOnce) {
  for (const std::size_t index : {0U, 1U}) {
    one_.session.paths()[index]->disconnect({ECANCELED, "test"});
  }
  ASSERT_TRUE(wait([&] { return one_.downs == 1; }));
  int answer = 0;
  one_.session.send({.direction = Direction::Read,
                     .message = std::vector<std::byte>(sizeof(DiskMessage)),
                     .answer_length = kBlock,
                     .done = [&](int error, const std::vector<std::byte>&) { answer = error; }});
  ASSERT_TRUE(wait([&] { return answer != 0; }));
  EXPECT_EQ(answer, ENOTCONN);
}

TEST_P(Multipath, AMessageWithoutAnAnswerDoesNotKeepTheSession) {
  server_.disk.hold = true;
  int answer = 0;
  one_.session.send({.direction = Direction::Read,
                     .message = std::vector<std::byte>(sizeof(DiskMessage)),
                     .answer_length = kBlock,
                     .done = [&](int error, const std::vector<std::byte>&) { answer = error; }});
  ASSERT_TRUE(bench_.until([&] { return server_.disk.held.size() == 1; }));
  one_.session.close([&] { closed_ = true; });
  ASSERT_TRUE(wait([&] { return closed_; }));
  EXPECT_EQ(answer, ENOTCONN);
  EXPECT_EQ(one_.session.permits_in_use(), 0U);
  run_held();
}

TEST_P(Multipath, PathsComeAndGoUnderRequests) {
  submit_held(8);
  bool removed = false;
  one_.session.remove_path(*one_.session.paths()[0], [&] { removed = true; });
  ASSERT_TRUE(wait([&] { return removed; }));
  EXPECT_EQ(one_.session.paths().size(), 1U);
  EXPECT_EQ(server_.acceptor().sessions().front()->paths().size(), 2U) << "its disk is busy";
  run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 8; }));
  release_all();
  EXPECT_EQ(server_.acceptor().sessions().front()->paths().size(), 1U);

  const PathSpec again = Client::specs(bench_.fabric, "one", 1).front();
  ASSERT_TRUE(one_.session.check_new_path(again));
  bool added = false;
  one_.session.add_path(again, [&](const Status& status) { added = status.has_value(); });
  ASSERT_TRUE(wait([&] { return added; }));
  EXPECT_EQ(one_.session.check_new_path(again).error().code, EEXIST);
  one_.done.clear();
  one_.finished = 0;
  submit_held(8);
  run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 8; }));
  release_all();
}

TEST_P(Multipath, APathThatCannotBeAddedIsGoneAgain) {
  PathSpec nowhere = Client::specs(bench_.fabric, "one", 1).front();
  nowhere.route.destination.text = "ip:10.0.7.7";
  int error = 0;
  const PathKeeper& first = *one_.session.paths()[0];
  one_.session.remove_path(*one_.session.paths()[1], [] {});
  EXPECT_TRUE(one_.session.is_only(first));
  one_.session.add_path(nowhere,
                        [&](const Status& status) { error = status ? 0 : status.error().code; });
  EXPECT_TRUE(one_.session.is_only(first)) << "the other one may not come";
  ASSERT_TRUE(wait([&] { return error != 0; }));
  EXPECT_EQ(error, EHOSTUNREACH);
  ASSERT_TRUE(wait([&] { return one_.session.paths().size() == 1; }));
  EXPECT_TRUE(first.connected());
  bool added = false;
  PathSpec other = Client::specs(bench_.fabric, "one", 2).back();
  other.uuid[0] ^= 0xff;
  one_.session.add_path(other, [&](const Status& status) { added = status.has_value(); });
  ASSERT_TRUE(wait([&] { return added; }));
  EXPECT_FALSE(one_.session.is_only(first));
}

TEST_P(Multipath, TheLastPathsRequestsAreSentOverOneThatIsAddedLater) {
  submit_held(4);
  bool removed = false;
  one_.session.remove_path(*one_.session.paths()[0], [&] { removed = true; });
  ASSERT_TRUE(wait([&] { return removed; }));
  one_.session.remove_path(*one_.session.paths()[0], [] {});
  ASSERT_TRUE(wait([&] { return one_.downs == 1; }));
  bench_.pass(seconds(2));
  bench_.idle();
  EXPECT_EQ(one_.finished, 0U);
  PathSpec other = Client::specs(bench_.fabric, "one", 1).front();
  other.uuid[0] ^= 0xff;
  one_.session.add_path(other, [](const Status&) {});
  ASSERT_TRUE(wait([&] { return one_.ups == 2; }));
  run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 4; }));
  release_all();
}

TEST_P(Multipath, APolicyMayChangeWhileRequestsRun) {
  one_.session.set_policy(PathPolicy::MinLatency);
  bench_.idle();
  server_.disk.hold = true;
  for (std::uint32_t i = 0; i < 6; ++i) one_.submit(i % 2, Direction::Write, i, std::byte{1});
  bench_.idle();
  EXPECT_EQ(in_flight(0) + in_flight(1), 6U);
  one_.session.set_policy(PathPolicy::RoundRobin);
  for (std::uint32_t i = 6; i < 10; ++i) one_.submit(i % 2, Direction::Write, i, std::byte{1});
  bench_.idle();
  EXPECT_EQ(in_flight(0) + in_flight(1), 10U);
  run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 10; }));
  release_all();
}

TEST_P(Multipath, HeartbeatsMeasureEachPath) {
  bench_.pass(milliseconds(100));
  bench_.idle();
  ASSERT_TRUE(
      wait([&] { return path(0).stats().latency_ns > 0 && path(1).stats().latency_ns > 0; }));
}

TEST_P(Multipath, ALinkThatComesUpIsTriedAtOnce) {
  bench_.cut(0);
  ASSERT_TRUE(wait([&] { return !path(0).connected(); }));
  for (int i = 0; i < 30; ++i) {
    bench_.pass(seconds(1));  // attempts take longer and longer
    bench_.idle();
  }
  ASSERT_FALSE(path(0).connected());
  bench_.heal(0);
  one_.session.on_link_up();
  EXPECT_TRUE(bench_.until([&] { return both_up(); })) << "without any time passing";
}

/// Not started yet.
class MultipathStart : public Multipath {
 protected:
  void SetUp() override {}
};

INSTANTIATE_TEST_SUITE_P(Orders, MultipathStart,
                         testing::Combine(testing::Range<std::uint64_t>(0, 5), testing::Bool()),
                         order_name);

TEST_P(MultipathStart, TheFirstPathsFailureIsNotTheSessions) {
  bench_.cut(0);
  one_.session.start();
  ASSERT_TRUE(wait([&] { return one_.ups == 1; }));
  EXPECT_EQ(one_.downs, 0);
  EXPECT_FALSE(path(0).connected());
  EXPECT_TRUE(path(1).connected());
  bench_.heal(0);
  ASSERT_TRUE(wait([&] { return both_up(); }));
}

TEST_P(MultipathStart, WithoutAnyPathTheSessionFailsOnce) {
  server_.listener.reset();
  one_.session.start();
  ASSERT_TRUE(wait([&] { return one_.downs == 1; }));
  EXPECT_FALSE(one_.retries);
  bench_.pass(seconds(10));
  bench_.idle();
  EXPECT_EQ(one_.downs, 1);
}

}  // namespace
}  // namespace rnbd::rtrs::test
