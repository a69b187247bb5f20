// SPDX-License-Identifier: Apache-2.0
// Whether a worker that has nothing to do looks again or sleeps. A sleep costs system calls and a
// wake-up, each longer than many waits are; looking costs a CPU. How long it looks follows from how
// long waits have been, and time that was looked in vain is paid for by time that was of use: an
// idle daemon sleeps. No thread, no clock.
#pragma once

#include <chrono>
#include <cstdint>

#include "common/clock.h"
#include "common/result.h"

namespace rnbd {

/// Of the option spin_us, in microseconds: the longest a worker looks for work in one wait.
inline constexpr std::uint32_t kDefaultSpinUs = 1000;
inline constexpr std::int64_t kMaxSpinUs = 100'000;

/// EINVAL, with a message that begins with the option's name.
Status check_spin_us(std::int64_t us);

class Spin {
 public:
  /// `longest`: 0 is never.
  explicit Spin(Duration longest) : longest_(longest) {}

  /// The round at `now` found work.
  void worked(TimePoint now);

  enum class Next : std::uint8_t {
    Look,   ///< have another round
    Yield,  ///< the same, but first let run who may have what is waited for
    Sleep,
  };

  /// The round at `now` found none.
  [[nodiscard]] Next next(TimePoint now);

 private:
  void begin_wait(TimePoint now);
  void learn(Duration waited);
  void earn(Duration useful);

  const Duration longest_;
  Duration window_{};     ///< to look for in this wait, or the next
  Duration credit_{};     ///< that may be lost by looking in vain
  TimePoint since_;       ///< of the wait, or of the work
  bool waiting_ = false;  ///< nothing was found since `since_`
  bool looking_ = false;  ///< and nobody sleeps yet
  TimePoint last_;        ///< next()
  Duration look_{};       ///< how long one takes
  bool yielded_ = false;  ///< since `last_`
  Duration yield_{};      ///< how far into the wait the next one is due
  Duration between_yields_{};
};

}  // namespace rnbd
