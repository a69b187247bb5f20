// SPDX-License-Identifier: Apache-2.0
#include "server/daemon_options.h"

#include <bit>
#include <cerrno>

#include <fmt/format.h>
#include <sys/un.h>

#include "common/metrics_address.h"
#include "common/slow_io.h"
#include "common/spin.h"
#include "common/words.h"

namespace rnbd::server {
namespace {

constexpr unsigned kImmediateBits = 28;  // of which IO_REQ's payload has all
constexpr std::int64_t kMaxIoSize = (std::int64_t{1} << kImmediateBits) - kChunkHeader;

static_assert((std::uint64_t{1} << kImmediateBits) < (std::uint64_t{1} << 32),
              "a session that satisfies check_immediate() fits one descriptor");

}  // namespace

Status check_port_nr(std::int64_t port) {
  if (port >= 1 && port <= 65535) return {};
  return fail(EINVAL, fmt::format("port_nr must be 1 to 65535, not {}", port));
}

Status check_dev_search_path(std::string_view path) {
  if (path.starts_with('/')) return {};
  return fail(EINVAL, fmt::format("dev_search_path must begin with '/', not be '{}'", path));
}

Status check_sess_queue_depth(std::int64_t depth) {
  if (depth >= 1 && depth <= kMaxQueueDepth) return {};
  return fail(EINVAL,
              fmt::format("sess_queue_depth must be 1 to {}, not {}", kMaxQueueDepth, depth));
}

Status check_max_io_size(std::int64_t bytes) {
  if (bytes >= kChunkHeader && bytes <= kMaxIoSize && bytes % kChunkHeader == 0) return {};
  return fail(EINVAL, fmt::format("max_io_size must be a multiple of {} up to {}, not {}",
                                  kChunkHeader, kMaxIoSize, bytes));
}

Status check_hb_interval(std::int64_t ms) {
  if (ms >= 10 && ms <= 60000) return {};
  return fail(EINVAL, fmt::format("hb_interval_ms must be 10 to 60000, not {}", ms));
}

Status check_hb_missed_max(std::int64_t count) {
  if (count >= 1 && count <= 100) return {};
  return fail(EINVAL, fmt::format("hb_missed_max must be 1 to 100, not {}", count));
}

Status check_control(std::string_view path) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (!path.empty() && path.size() <= kLongest) return {};
  return fail(EINVAL, fmt::format("control must be a path of 1 to {} bytes", kLongest));
}

Status check_immediate(std::uint32_t sess_queue_depth, std::uint32_t max_io_size) {
  const unsigned depth_bits = std::bit_width(sess_queue_depth - 1);
  const unsigned chunk_bits = std::bit_width(max_io_size + kChunkHeader - 1);
  if (depth_bits + chunk_bits <= kImmediateBits) return {};
  const std::uint64_t fitting_depth = std::uint64_t{1} << (kImmediateBits - chunk_bits);
  const std::uint64_t fitting_io =
      (std::uint64_t{1} << (kImmediateBits - depth_bits)) - kChunkHeader;
  return fail(EINVAL,
              fmt::format("sess_queue_depth {} and max_io_size {} are too large together: at "
                          "most {} with this max_io_size{}",
                          sess_queue_depth, max_io_size, fitting_depth,
                          fitting_io >= kChunkHeader
                              ? fmt::format(", or {} with this sess_queue_depth", fitting_io)
                              : std::string()));
}

Status check(const DaemonOptions& options) {
  for (const Status& status :
       {check_control(options.control_path), check_log_level(options.log_level),
        check_port_nr(options.port_nr), check_dev_search_path(options.dev_search_path),
        check_sess_queue_depth(options.sess_queue_depth), check_max_io_size(options.max_io_size),
        check_hb_interval(options.hb_interval_ms), check_hb_missed_max(options.hb_missed_max),
        check_slow_io_ms(options.slow_io_ms), check_spin_us(options.spin_us),
        check_metrics_listen(options.metrics_listen)}) {
    if (!status) return status;
  }
  for (const LimitOption& limit : kLimitOptions) {
    if (Status status = check_limit(limit, options.limits.*limit.field); !status) return status;
  }
  return check_together(options);
}

Status check_together(const DaemonOptions& options) {
  const Status fits = check_immediate(options.sess_queue_depth, options.max_io_size);
  return fits ? check_limits_hold(options.limits, session_memory(options)) : fits;
}

std::uint64_t session_memory(const DaemonOptions& options) {
  return std::uint64_t{options.sess_queue_depth} * (options.max_io_size + kChunkHeader);
}

}  // namespace rnbd::server
