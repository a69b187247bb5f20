// SPDX-License-Identifier: Apache-2.0
// Time as the code sees it: points on a monotonic clock that are handed in, so that tests decide
// what time it is.
#pragma once

#include <chrono>

namespace rnbd {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

inline constexpr TimePoint kNever = TimePoint::max();

}  // namespace rnbd
