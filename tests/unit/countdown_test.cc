// SPDX-License-Identifier: Apache-2.0
// The joining of several threads' work.
#include "common/countdown.h"

#include <gtest/gtest.h>

namespace rnbd {
namespace {

TEST(Countdown, TheLastCallOfAnyCopyRunsWhatComesNext) {
  int runs = 0;
  const Countdown one_done(3, [&] { ++runs; });
  const Countdown copy = one_done;
  one_done();
  copy();
  EXPECT_EQ(runs, 0);
  Executor::Task posted = one_done;
  posted();
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace rnbd
