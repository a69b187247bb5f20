// SPDX-License-Identifier: Apache-2.0
// The pool of permits: who gets one, who waits, who is woken.
#include "transport/rtrs/permits.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace rnbd::rtrs {
namespace {

std::vector<PermitId> take(PermitPool& pool, std::uint32_t share, std::size_t count) {
  std::vector<PermitId> permits(count);
  if (!pool.acquire(share, permits)) permits.clear();
  return permits;
}

TEST(Permits, EveryPermitIsGivenOnce) {
  PermitPool pool(100, 3);
  std::set<PermitId> seen;
  for (std::uint32_t i = 0; i < 100; ++i) {
    const auto got = take(pool, i < 100 - pool.guaranteed(0) ? 1 : 0, 1);
    ASSERT_EQ(got.size(), 1U);
    EXPECT_LT(got[0], 100);
    EXPECT_TRUE(seen.insert(got[0]).second);
  }
  EXPECT_TRUE(take(pool, 1, 1).empty());
  EXPECT_EQ(pool.in_use(), 100U);
}

TEST(Permits, ARefusalTakesNone) {
  PermitPool pool(8, 2);
  const auto some = take(pool, 1, 5);
  EXPECT_TRUE(take(pool, 1, 4).empty());
  EXPECT_EQ(pool.in_use(), 5U);
}

TEST(Permits, WhatOnePoolHasGivenOutAnotherOverTheSameBitmapKnows) {
  std::vector<PermitPool::Word> bitmap(PermitPool::words(100));
  PermitPool first(100, 3, bitmap);
  const auto kept = take(first, 1, 10);
  first.release(std::span(kept).first(4));
  PermitPool second(100, 3, bitmap);
  EXPECT_EQ(second.all_used(), std::vector(kept.begin() + 4, kept.end()));
  EXPECT_EQ(second.in_use(), 6U);
  for (const PermitId permit : take(second, 1, 90)) {
    EXPECT_EQ(std::ranges::find(kept.begin() + 4, kept.end(), permit), kept.end());
  }
}

TEST(Permits, BorrowsOnlyWhileNobodyStarves) {
  PermitPool pool(64, 3);  // service, and two queues
  const std::size_t lendable = 64 - pool.guaranteed(0);
  const auto all = take(pool, 1, lendable);
  ASSERT_EQ(all.size(), lendable) << "an idle session lends all but what service messages need";
  EXPECT_EQ(take(pool, 0, 1).size(), 1U) << "which is there for them even then";
  EXPECT_TRUE(take(pool, 2, 1).empty());  // share 2 starves from here on
  pool.release(all);
  EXPECT_EQ(pool.next_to_wake(), 2);
  EXPECT_EQ(pool.next_to_wake(), -1) << "named once";
  EXPECT_TRUE(take(pool, 1, lendable).empty()) << "what is share 2's own has to wait for it";
  EXPECT_EQ(take(pool, 1, pool.guaranteed(1)).size(), pool.guaranteed(1));
  EXPECT_EQ(take(pool, 2, pool.guaranteed(2)).size(), pool.guaranteed(2));
}

TEST(Permits, ASmallPoolServesEveryShare) {
  for (const std::uint32_t depth : {2U, 3U, 5U}) {
    PermitPool pool(depth, 9);
    for (std::uint32_t share = 0; share < 9; ++share) {
      EXPECT_GE(pool.guaranteed(share), 1U);
      const auto got = take(pool, share, 1);
      ASSERT_EQ(got.size(), 1U) << depth << " " << share;
      pool.release(got);
    }
  }
}

// Two threads that starve each other all the time, each needing several permits at once.
TEST(Permits, EverybodyGetsOnUnderContention) {
  PermitPool pool(16, 3);
  std::vector<std::atomic<int>> owner(16);
  std::atomic<bool> clash = false;
  const auto work = [&](std::uint32_t share) {
    std::vector<PermitId> permits(pool.guaranteed(share));
    for (int done = 0; done < 20000;) {
      if (!pool.acquire(share, permits)) {
        std::this_thread::yield();
        continue;
      }
      for (const PermitId permit : permits) clash = clash || owner[permit].exchange(1) != 0;
      for (const PermitId permit : permits) owner[permit] = 0;
      pool.release(permits);
      while (pool.next_to_wake() >= 0) {
      }
      ++done;
    }
  };
  std::thread first(work, 1);
  std::thread second(work, 2);
  first.join();
  second.join();
  EXPECT_FALSE(clash);
  EXPECT_EQ(pool.in_use(), 0U);
}

}  // namespace
}  // namespace rnbd::rtrs
