// SPDX-License-Identifier: Apache-2.0
// Spin: how long a worker looks for work, and what it may lose by that.
#include "common/spin.h"

#include <chrono>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rnbd {
namespace {

using namespace std::chrono_literals;

/// A worker whose rounds take a microsecond each when they find nothing.
class SpinTest : public testing::Test {
 protected:
  /// The worker works for `work`, then `gap` passes until there is more. Returns how long it looked
  /// for that; the rest it slept.
  Duration go(Duration work, Duration gap) {
    now_ += work;
    const TimePoint more = now_ + gap;
    const TimePoint since = now_;
    while (now_ < more && spin_.next(now_) != Spin::Next::Sleep) now_ += 1us;
    const Duration looked = now_ - since;
    now_ = more;
    spin_.worked(now_);
    (looked < gap ? vain_ : looked_) += looked;
    worked_ += work;
    return looked;
  }

  std::vector<Duration> yields_of_a_wait(Duration yield);

  Spin spin_{500us};
  TimePoint now_{1h};
  Duration vain_{};    ///< looked, and slept all the same
  Duration looked_{};  ///< looked, and found
  Duration worked_{};
};

TEST_F(SpinTest, LooksThroughWaitsThatAreShort) {
  for (int i = 0; i < 20; ++i) go(100us, 200us);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(go(100us, 200us), 200us);
}

TEST_F(SpinTest, SleepsAtOnceWhereWaitsAreLong) {
  for (int i = 0; i < 20; ++i) go(100us, 200us);
  for (int i = 0; i < 10; ++i) go(100us, 10ms);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(go(100us, 10ms), 0us);
}

TEST_F(SpinTest, LooksAgainWhenWaitsAreShortAgain) {
  for (int i = 0; i < 20; ++i) go(100us, 10ms);
  for (int i = 0; i < 20; ++i) go(100us, 300us);
  EXPECT_EQ(go(100us, 300us), 300us);
}

TEST_F(SpinTest, LosesAtMostAQuarterOfWhatWasOfUse) {
  // The worst there is: a short wait, which makes it look, and then one that is too long for it.
  for (int i = 0; i < 1000; ++i) {
    go(10us, 400us);
    go(10us, 501us);
  }
  EXPECT_GT(vain_, 0us);
  EXPECT_LE(vain_, (worked_ + looked_) / 4);
}

TEST_F(SpinTest, AnIdleWorkerSleeps) {
  // Ten times a second something small, and an answer soon after.
  for (int i = 0; i < 600; ++i) {
    go(20us, 80us);
    go(20us, 100ms);
  }
  EXPECT_LT(vain_ + looked_, 600ms);
}

TEST_F(SpinTest, ARushThatEndsCostsNoMoreThanFourWaits) {
  for (int i = 0; i < 100'000; ++i) go(100us, 100us);
  const Duration before = vain_;
  for (int i = 0; i < 1000; ++i) go(0us, 1s);
  EXPECT_LE(vain_ - before, 4 * 500us);
}

TEST(Spin, NeverLooksIfItMayNot) {
  Spin spin(0us);
  TimePoint now(1h);
  for (int i = 0; i < 100; ++i) {
    spin.worked(now += 50us);
    EXPECT_EQ(spin.next(now += 50us), Spin::Next::Sleep);
  }
}

TEST(Spin, AWakeUpForNothingIsNoReasonToLook) {
  Spin spin(500us);
  TimePoint now(1h);
  for (int i = 0; i < 100; ++i) {
    spin.worked(now += 100us);
    static_cast<void>(spin.next(now += 100us));
  }
  spin.worked(now);
  while (spin.next(now) != Spin::Next::Sleep) now += 1us;
  EXPECT_EQ(spin.next(now += 1s), Spin::Next::Sleep);
}

/// When a wait of 100 µs yields, if looks take 1 µs and yields `yield`.
std::vector<Duration> SpinTest::yields_of_a_wait(Duration yield) {
  for (int i = 0; i < 40; ++i) go(100us, 400us);
  now_ += 100us;
  std::vector<Duration> yields;
  for (const TimePoint since = now_; now_ - since < 100us;) {
    const bool yields_now = spin_.next(now_) == Spin::Next::Yield;
    if (yields_now) yields.push_back(now_ - since);
    now_ += yields_now ? yield : 1us;
  }
  return yields;
}

TEST_F(SpinTest, YieldsAtOnceAndOftenWhileOthersRun) {
  EXPECT_THAT(yields_of_a_wait(20us), testing::ElementsAre(0us, 28us, 56us, 84us));
}

TEST_F(SpinTest, YieldsAtOnceAndSeldomWhileNobodyElseRuns) {
  EXPECT_THAT(yields_of_a_wait(2us), testing::ElementsAre(0us, 18us, 52us));
}

TEST(Spin, HasBounds) {
  EXPECT_TRUE(check_spin_us(0));
  EXPECT_TRUE(check_spin_us(kMaxSpinUs));
  EXPECT_FALSE(check_spin_us(-1));
  EXPECT_FALSE(check_spin_us(kMaxSpinUs + 1));
}

}  // namespace
}  // namespace rnbd
