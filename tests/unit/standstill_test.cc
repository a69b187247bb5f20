// SPDX-License-Identifier: Apache-2.0
// Connections that stand still while their path is alive: what is posted there is never done, and
// nobody is told.
#include <chrono>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "unit/engine_bench.h"

namespace rnbd::rtrs::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Standstill : public testing::TestWithParam<std::tuple<std::uint64_t, bool>> {
 protected:
  void SetUp() override {
    one_.session.start();
    ASSERT_TRUE(bench_.until([&] { return path().connected(); }));
  }
  void TearDown() override {
    bench_.close(one_);
    bench_.close(bench_.two);
    bench_.idle();
    bench_.server.listener.reset();
    EXPECT_EQ(bench_.fabric.endpoints(), 0U);
  }

  [[nodiscard]] const PathKeeper& path() const { return *one_.session.paths().front(); }

  bool wait(const std::function<bool()>& condition, milliseconds limit = seconds(60)) {
    for (auto waited = milliseconds(0); waited < limit; waited += milliseconds(10)) {
      if (bench_.until(condition)) return true;
      bench_.pass(milliseconds(10));
    }
    return condition();
  }

  /// Over the connection that stands still.
  PermitId write() { return one_.submit(1, Direction::Write, 7, std::byte{1}); }

  void expect_an_answer_by_another_life(PermitId permit) {
    ASSERT_TRUE(wait([&] { return one_.finished == 1; }, seconds(15)));
    EXPECT_EQ(one_.done[permit], 0);
    EXPECT_EQ(path().reconnects(), 1U);
    one_.release(1, permit);
  }

  Bench bench_{std::get<0>(GetParam()), std::get<1>(GetParam())};
  Client& one_ = bench_.one;
};

INSTANTIATE_TEST_SUITE_P(Orders, Standstill,
                         testing::Combine(testing::Range<std::uint64_t>(0, 10), testing::Bool()));

TEST_P(Standstill, OfAClientsConnectionIsTheEndOfThePathsLife) {
  bench_.fabric.stand_still(bench_.near(0), bench_.fabric.host("server").address());
  expect_an_answer_by_another_life(write());
  EXPECT_NE(path().last_error().find("does nothing"), std::string::npos) << path().last_error();
}

TEST_P(Standstill, OfAServersConnectionIsTheEndOfThePathsLife) {
  bench_.fabric.stand_still(bench_.fabric.host("server").address(), bench_.near(0));
  expect_an_answer_by_another_life(write());
}

TEST_P(Standstill, OfAServersConnectionIsNoticedWhileRequestsComeAndTheirKeysDie) {
  bench_.fabric.stand_still(bench_.fabric.host("server").address(), bench_.near(0));
  std::vector<PermitId> permits;
  for (int i = 0; i < 8; ++i) {
    permits.push_back(write());
    if (wait([&] { return one_.finished > 0; }, milliseconds(1500))) break;
  }
  EXPECT_LT(permits.size(), 8U) << "each of them passed for a sign of life";
  ASSERT_TRUE(wait([&] { return one_.finished == permits.size(); }, seconds(15)));
  EXPECT_EQ(path().reconnects(), 1U);
  for (const PermitId permit : permits) one_.release(1, permit);
}

TEST_P(Standstill, IsNotWhatASlowDiskIs) {
  bench_.server.disk.hold = true;
  const PermitId permit = write();
  EXPECT_FALSE(wait([&] { return !path().connected(); }, seconds(30)));
  bench_.server.disk.hold = false;
  bench_.server.disk.run_held();
  ASSERT_TRUE(wait([&] { return one_.finished == 1; }));
  EXPECT_EQ(path().reconnects(), 0U);
  one_.release(1, permit);
}

}  // namespace
}  // namespace rnbd::rtrs::test
