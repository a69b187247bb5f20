// SPDX-License-Identifier: Apache-2.0
#include "common/slow_io.h"

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "common/log.h"

namespace rnbd {
namespace {

constexpr std::chrono::seconds kPause{1};

}  // namespace

Status check_slow_io_ms(std::int64_t ms) {
  if (ms >= 0 && ms <= kMaxSlowIoMs) return {};
  return fail(EINVAL, fmt::format("slow_io_ms must be 0 to {}, not {}", kMaxSlowIoMs, ms));
}

std::string in_ms(Duration time) {
  return fmt::format("{:.1f}", std::chrono::duration<double, std::milli>(time).count());
}

bool SlowIoLog::pass() {
  if (!closed_.exchange(true)) return true;
  left_out_.fetch_add(1);
  return false;
}

void SlowIoLog::tell(Subject subject, const std::string& details) {
  subject_ = std::move(subject);
  write(details + ' ');
}

void SlowIoLog::write(const std::string& details) {
  const log::About about(subject_.session, subject_.device);
  log::warn("slow I/O: device={} session={} {}left_out={}", subject_.device, subject_.session,
            details, left_out_.exchange(0));
  timer_ = control_.call_after(kPause, [this] { open(); });
}

void SlowIoLog::open() {
  closed_ = false;
  timer_ = control_.call_after(kPause, [this] { conclude(); });
}

/// Nothing was slow any more; what was left out is not to be left untold.
void SlowIoLog::conclude() {
  if (left_out_.load() > 0 && !closed_.exchange(true)) write("");
}

}  // namespace rnbd
