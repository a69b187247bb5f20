// SPDX-License-Identifier: Apache-2.0
// The single-threaded stand-in for workers: rounds, removal from inside, the virtual clock.
#include "sim/manual_context.h"

#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "contract/memory_under_test.h"
#include "contract/peer.h"

namespace rnbd::sim {
namespace {

using std::chrono::milliseconds;

class Probe final : public Pollable {
 public:
  std::size_t poll() override {
    ++polls;
    return on_poll ? on_poll() : 0;
  }
  void flush() override { ++flushes; }
  [[nodiscard]] int wait_fd() const override { return -1; }

  std::function<std::size_t()> on_poll;
  int polls = 0;
  int flushes = 0;
};

class Alarm final : public Timed {
 public:
  explicit Alarm(TimePoint when) : when_(when) {}
  [[nodiscard]] TimePoint deadline() const override { return when_; }
  void on_deadline(TimePoint now) override {
    rang_at = now;
    when_ = kNever;
    if (then) then();
  }

  std::function<void()> then;
  TimePoint rang_at = kNever;

 private:
  TimePoint when_;
};

TEST(ManualContext, RunsTasksInOrderAndNeverInsidePost) {
  ManualContext context;
  std::string order;
  context.post([&] {
    order += 'a';
    context.post([&] { order += 'c'; });
    order += 'b';
  });
  EXPECT_EQ(order, "");
  EXPECT_TRUE(context.run_once());
  EXPECT_EQ(order, "ab");
  EXPECT_TRUE(context.run_once());
  EXPECT_EQ(order, "abc");
  EXPECT_FALSE(context.run_once());
}

TEST(ManualContext, FlushesOnceForManyWishes) {
  ManualContext context;
  Probe probe;
  context.add(probe);
  probe.on_poll = [&]() -> std::size_t {
    context.want_flush(probe);
    context.want_flush(probe);
    probe.on_poll = nullptr;
    return 2;
  };
  EXPECT_TRUE(context.run_once());
  EXPECT_EQ(probe.flushes, 1);
  EXPECT_FALSE(context.run_once());
  EXPECT_EQ(probe.flushes, 1);
  context.remove(probe);
}

TEST(ManualContext, PollablesMayLeaveInsidePoll) {
  ManualContext context;
  Probe first;
  Probe second;
  Probe late;
  context.add(first);
  context.add(second);
  first.on_poll = [&]() -> std::size_t {
    context.remove(second);
    context.remove(first);
    context.add(late);
    return 1;
  };
  context.run_once();
  context.run_once();
  EXPECT_EQ(first.polls, 1);
  EXPECT_EQ(second.polls, 0);
  EXPECT_EQ(late.polls, 1);
  context.remove(late);
}

TEST(ManualContext, AWakeIsWorkToDo) {
  ManualContext context;
  Probe probe;
  context.add(probe);
  EXPECT_FALSE(context.run_once());
  context.wake(probe);
  EXPECT_TRUE(context.run_once());
  EXPECT_FALSE(context.run_once());
  context.remove(probe);
}

TEST(ManualContext, TimersRunWhenTheirTimeHasCome) {
  ManualContext context;
  Alarm alarm(context.now() + milliseconds(10));
  context.add(alarm);
  EXPECT_EQ(context.next_deadline(), alarm.deadline());
  context.advance(milliseconds(9));
  EXPECT_FALSE(context.run_once());
  context.advance(milliseconds(1));
  EXPECT_TRUE(context.run_once());
  EXPECT_EQ(alarm.rang_at, context.now());
  EXPECT_FALSE(context.run_once());
  EXPECT_EQ(context.next_deadline(), kNever);
  context.remove(alarm);
}

TEST(ManualContext, TimersMayLeaveWhenTheyRing) {
  ManualContext context;
  Alarm first(context.now());
  Alarm second(context.now());
  context.add(first);
  context.add(second);
  first.then = [&] {
    context.remove(second);
    context.remove(first);
  };
  EXPECT_TRUE(context.run_once());
  EXPECT_EQ(second.rang_at, kNever);
  EXPECT_FALSE(context.run_once());
}

/// Answers each immediate with the next number, until a limit.
class Player final : public Pollable {
 public:
  Player(WorkerContext& context, contract::Peer& peer) : context_(context), peer_(peer) {
    context_.add(*this);
    peer_.post_empty_receives(0, 1);
  }
  ~Player() override { context_.remove(*this); }

  void serve(std::uint32_t number) {
    next_ = number;
    context_.want_flush(*this);
  }
  std::size_t poll() override {
    std::array<transport::Completion, 4> batch;
    const std::size_t count = peer_.endpoint->poll(batch);
    for (const auto& completion : std::span(batch).first(count)) {
      if (completion.kind != transport::CompletionKind::WriteImmediate) continue;
      seen = completion.immediate;
      peer_.post_empty_receives(0, 1);
      serve(seen + 1);
    }
    return count;
  }
  void flush() override {
    if (next_ <= 20) peer_.post({contract::write_immediate(1, next_)});
  }
  [[nodiscard]] int wait_fd() const override { return peer_.endpoint->wait_fd(); }

  std::uint32_t seen = 0;

 private:
  WorkerContext& context_;
  contract::Peer& peer_;
  std::uint32_t next_ = 0;
};

TEST(ManualContext, TwoContextsAndAFabricRunToAnEnd) {
  contract::MemoryUnderTest under({.seed = 3});
  contract::Connection pair(under);
  ManualContext left;
  ManualContext right;
  Player client(left, pair.client);
  Player server(right, pair.server);
  client.serve(1);
  EXPECT_TRUE(run_until([&] { return server.seen >= 9; }, {&left, &right}, under.network()));
  EXPECT_LT(server.seen, 19U);
  EXPECT_FALSE(run_until([&] { return server.seen > 20; }, {&left, &right}, under.network()));
  EXPECT_EQ(server.seen, 19U);
  EXPECT_EQ(client.seen, 20U);
  EXPECT_TRUE(run_until_idle({&left, &right}, under.network()));
}

}  // namespace
}  // namespace rnbd::sim
