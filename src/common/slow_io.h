// SPDX-License-Identifier: Apache-2.0
// The log's lines about requests that took long, of one device: one a second at most, whichever
// worker they come from. Control thread, but for pass(). Outlives what is posted for it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/control_context.h"
#include "common/result.h"

namespace rnbd {

/// Longest time after which a request counts as slow, in milliseconds: an hour.
inline constexpr std::int64_t kMaxSlowIoMs = 3'600'000;

/// EINVAL, with a message that begins with the option's name.
Status check_slow_io_ms(std::int64_t ms);

/// What `slow_io_ms` means: 0 is never.
constexpr Duration slow_io_limit(std::uint32_t ms) {
  return ms == 0 ? Duration::max() : Duration(std::chrono::milliseconds(ms));
}

/// "1203.4": milliseconds.
std::string in_ms(Duration time);

class SlowIoLog {
 public:
  /// Whose requests they are, as people call them.
  struct Subject {
    std::string session;
    std::string device;
  };

  explicit SlowIoLog(ControlContext& control) : control_(control) {}

  /// Whether to tell() of a slow request; if not, it is counted, and the next line says so. Any
  /// thread; neither locks nor allocates.
  bool pass();

  /// Logs "slow I/O: device=… session=… `details` left_out=…", and lets the next one through after
  /// a second. Once for each pass() that was true.
  void tell(Subject subject, const std::string& details);

 private:
  void write(const std::string& details);
  void open();
  void conclude();

  ControlContext& control_;
  std::atomic<bool> closed_ = false;
  std::atomic<std::uint64_t> left_out_ = 0;
  Subject subject_;  ///< of the last line
  std::unique_ptr<ControlContext::Timer> timer_;
};

}  // namespace rnbd
