// SPDX-License-Identifier: Apache-2.0
// Which path is picked.
#include "transport/rtrs/path_policy.h"

#include <vector>

#include <gtest/gtest.h>

namespace rnbd::rtrs {
namespace {

std::vector<std::size_t> picks(PathPolicy policy, const std::vector<PathLoad>& paths, int count) {
  PathPicker picker;
  std::vector<std::size_t> picked;
  for (int i = 0; i < count; ++i) picked.push_back(picker.pick(policy, paths));
  return picked;
}

using Picks = std::vector<std::size_t>;

TEST(PathPolicy, RoundRobinTakesThemInTurn) {
  const std::vector<PathLoad> paths = {{true, 9, 1}, {true, 0, 1}, {true, 5, 1}};
  EXPECT_EQ(picks(PathPolicy::RoundRobin, paths, 4), (Picks{1, 2, 0, 1}));
}

TEST(PathPolicy, MinInflightTakesTheLeastBusy) {
  const std::vector<PathLoad> paths = {{true, 3, 1}, {true, 1, 9}, {true, 3, 1}};
  EXPECT_EQ(picks(PathPolicy::MinInflight, paths, 2), (Picks{1, 1}));
}

TEST(PathPolicy, MinInflightCountsAFarSlowerPathAsBusier) {
  constexpr std::uint64_t kMs = 1'000'000;
  const auto policy = PathPolicy::MinInflight;
  EXPECT_EQ(picks(policy, {{true, 0, kMs}, {true, 0, 5 * kMs}}, 2), (Picks{0, 0}));
  EXPECT_EQ(picks(policy, {{true, 2, kMs}, {true, 0, 5 * kMs}}, 2), (Picks{1, 1}));
  EXPECT_EQ(picks(policy, {{true, 0, kMs}, {true, 0, 4 * kMs}}, 2), (Picks{1, 0})) << "not far";
  EXPECT_EQ(picks(policy, {{true, 0, 10}, {true, 0, kMs}}, 2), (Picks{1, 0})) << "a mere wake-up";
  EXPECT_EQ(picks(policy, {{true, 0, 5 * kMs}, {false, 0, 10}}, 1), (Picks{0}));
  EXPECT_EQ(picks(policy, {{true, 0, 0}, {true, 0, 5 * kMs}}, 2), (Picks{1, 0}))
      << "never measured";
}

TEST(PathPolicy, MinLatencyTakesTheNearestAndTriesTheUnknown) {
  EXPECT_EQ(picks(PathPolicy::MinLatency, {{true, 9, 20}, {true, 0, 30}}, 2), (Picks{0, 0}));
  EXPECT_EQ(picks(PathPolicy::MinLatency, {{true, 0, 20}, {true, 9, 0}}, 2), (Picks{1, 1}));
}

TEST(PathPolicy, EqualsAreTakenInTurn) {
  const std::vector<PathLoad> paths = {{true, 1, 7}, {true, 1, 7}};
  EXPECT_EQ(picks(PathPolicy::MinInflight, paths, 3), (Picks{1, 0, 1}));
  EXPECT_EQ(picks(PathPolicy::MinLatency, paths, 3), (Picks{1, 0, 1}));
}

TEST(PathPolicy, WhatCannotBeUsedIsNot) {
  const std::vector<PathLoad> paths = {{true, 9, 90}, {false, 0, 0}, {false, 1, 1}};
  for (const PathPolicy policy :
       {PathPolicy::RoundRobin, PathPolicy::MinInflight, PathPolicy::MinLatency}) {
    EXPECT_EQ(picks(policy, paths, 2), (Picks{0, 0}));
    EXPECT_EQ(picks(policy, {{false, 0, 0}}, 1), (Picks{PathPicker::kNone}));
    EXPECT_EQ(picks(policy, {}, 1), (Picks{PathPicker::kNone}));
  }
}

}  // namespace
}  // namespace rnbd::rtrs
