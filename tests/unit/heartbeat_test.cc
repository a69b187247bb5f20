// SPDX-License-Identifier: Apache-2.0
// Heartbeat: when a peer is asked, and when it is given up.
#include "transport/rtrs/heartbeat.h"

#include <chrono>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rnbd::rtrs {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

constexpr HeartbeatTiming kTiming{.interval = 100ms, .missed_max = 2};

struct FakePath final : HeartbeatPath {
  [[nodiscard]] std::uint64_t arrivals() const override { return arrived; }
  void on_alive() override { ++alive; }
  void send_heartbeat() override { asked.push_back(now - TimePoint()); }
  void on_heartbeat_lost() override { lost = now - TimePoint(); }

  TimePoint now;
  std::uint64_t arrived = 0;
  int alive = 0;
  std::vector<Duration> asked;
  Duration lost{};
};

class HeartbeatTest : public testing::Test {
 protected:
  /// Until `end`, with `every` step in between: what a worker does.
  template <typename Step>
  void run(Heartbeat& heartbeat, Duration end, Step every) {
    for (; path_.now < TimePoint() + end; path_.now += 10ms) {
      every();
      if (heartbeat.deadline() <= path_.now) heartbeat.on_deadline(path_.now);
    }
  }
  void run(Heartbeat& heartbeat, Duration end) {
    run(heartbeat, end, [] {});
  }

  FakePath path_;
};

TEST_F(HeartbeatTest, AsksOnEachTickWhileItIsAnswered) {
  Heartbeat heartbeat(path_, kTiming, Asks::Always, path_.now);
  run(heartbeat, 350ms, [this] { ++path_.arrived; });
  EXPECT_THAT(path_.asked, ElementsAre(100ms, 200ms, 300ms));
  EXPECT_EQ(path_.alive, 3);
}

TEST_F(HeartbeatTest, AsksOnceInASilenceAndGivesUp) {
  for (const Asks asks : {Asks::Always, Asks::InDoubt}) {
    SCOPED_TRACE(static_cast<int>(asks));
    path_ = {};
    path_.arrived = 1;
    Heartbeat heartbeat(path_, kTiming, asks, path_.now);
    run(heartbeat, 2s);
    const Duration first = asks == Asks::Always ? 100ms : 200ms;
    EXPECT_THAT(path_.asked, ElementsAre(first));
    EXPECT_EQ(path_.lost, 400ms);
  }
}

TEST_F(HeartbeatTest, InDoubtAsksNobodyOfWhomItHears) {
  Heartbeat heartbeat(path_, kTiming, Asks::InDoubt, path_.now);
  run(heartbeat, 1s, [this] { ++path_.arrived; });
  EXPECT_THAT(path_.asked, ElementsAre());
  EXPECT_EQ(path_.alive, 9);
}

TEST_F(HeartbeatTest, APeerThatAsksSavesTheTicksAndItsSilenceIsNoticedAllTheSame) {
  Heartbeat heartbeat(path_, kTiming, Asks::InDoubt, path_.now);
  int ticks = 0;
  for (; path_.now < TimePoint() + 1s; path_.now += 10ms) {
    if (heartbeat.deadline() <= path_.now) ++ticks;
    if ((path_.now - TimePoint()) % 100ms != 50ms) continue;
    ++path_.arrived;
    heartbeat.on_asked(path_.now);
  }
  EXPECT_EQ(ticks, 0);
  EXPECT_EQ(path_.alive, 10);
  run(heartbeat, 3s);
  EXPECT_THAT(path_.asked, ElementsAre(1100ms));
  EXPECT_EQ(path_.lost, 1300ms) << "950 ms, one and a half intervals, and two";
}

TEST_F(HeartbeatTest, APeerThatAsksSeldomIsAskedBeforeItIsGivenUp) {
  Heartbeat heartbeat(path_, {.interval = 100ms, .missed_max = 1}, Asks::InDoubt, path_.now);
  std::size_t answered = 0;
  run(heartbeat, 5s, [&] {
    if ((path_.now - TimePoint()) % 1s == 0s) {
      ++path_.arrived;
      heartbeat.on_asked(path_.now);
    }
    if (answered < path_.asked.size()) {
      ++answered;
      ++path_.arrived;
    }
  });
  EXPECT_EQ(path_.lost, 0s);
  EXPECT_GT(answered, 10U);
}

TEST_F(HeartbeatTest, WhoTimesTheAnswersAsksWhetherAskedOrNot) {
  Heartbeat heartbeat(path_, kTiming, Asks::Always, path_.now);
  run(heartbeat, 250ms, [&] {
    ++path_.arrived;
    heartbeat.on_asked(path_.now);
  });
  EXPECT_THAT(path_.asked, ElementsAre(100ms, 200ms));
}

}  // namespace
}  // namespace rnbd::rtrs
