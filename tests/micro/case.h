// SPDX-License-Identifier: Apache-2.0
// What is measured by itself: a piece of the data path that can be run any number of times. Two
// programs run the same cases: micro_bench (Google Benchmark: time) and micro_count (under
// callgrind: instructions). A stage is one thread's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace rnbd::micro {

class Stage {
 public:
  virtual ~Stage() = default;
  /// Does `times` of what the case is named after, a multiple of kBatch.
  virtual void run(std::size_t times) = 0;
};

using StagePair = std::array<std::unique_ptr<Stage>, 2>;

/// Requests that are under way together.
inline constexpr std::size_t kBatch = 32;

inline constexpr std::uint32_t kIoBytes = 4096;  ///< of each request

struct Case {
  std::string name;
  std::function<std::unique_ptr<Stage>()> make;  ///< with everything set up
  /// One for each of two threads that run at once, as two workers of a daemon have them: made by
  /// one thread, so that their memory lies side by side, and sharing what workers share.
  std::function<StagePair()> make_two = [make = make] { return StagePair{make(), make()}; };
};

/// All there are: small ones, then whole requests.
std::vector<Case> all_cases();

std::vector<Case> part_cases();    ///< part_cases.cc
std::vector<Case> engine_cases();  ///< engine_cases.cc
std::vector<Case> device_cases();  ///< device_cases.cc

}  // namespace rnbd::micro
