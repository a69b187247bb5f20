// SPDX-License-Identifier: Apache-2.0
// What one thread writes again and again has cache lines of its own: `struct alignas(kCacheLine)`.
// Otherwise a neighbour's writes take the line away from it each time (false sharing), which makes
// taking a permit three and a half times as dear on two cores (micro_bench, permit/threads:2).
#pragma once

#include <cstddef>

namespace rnbd {

inline constexpr std::size_t kCacheLine = 64;  ///< bytes, of x86-64 and most of arm64

}  // namespace rnbd
