// SPDX-License-Identifier: Apache-2.0
// Which options of the server daemon can work. Pure; any thread. Numbers come as 64 bits, so that
// what does not fit is refused by name and not cut off.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/result.h"
#include "server/daemon.h"

namespace rnbd::server {

/// Part of each chunk that holds the messages; also the unit of max_io_size.
inline constexpr std::uint32_t kChunkHeader = 4096;

inline constexpr std::uint32_t kMaxQueueDepth = 65535;

/// Each returns EINVAL, with a message that begins with the option's name.
Status check_port_nr(std::int64_t port);              ///< 1 to 65535
Status check_dev_search_path(std::string_view path);  ///< absolute
Status check_sess_queue_depth(std::int64_t depth);    ///< 1 to 65535
Status check_max_io_size(std::int64_t bytes);         ///< a multiple of 4096
Status check_hb_interval(std::int64_t ms);            ///< 10 to 60000
Status check_hb_missed_max(std::int64_t count);       ///< 1 to 100
Status check_control(std::string_view path);          ///< not empty, fits a socket's address

/// Chunk number and offset share the 28 bits of an immediate: bits(sess_queue_depth - 1) +
/// bits(chunk size - 1) <= 28. That also bounds a session's memory to 256 MiB, far below the 4 GiB
/// that one descriptor can name. Both values have passed their own checks.
Status check_immediate(std::uint32_t sess_queue_depth, std::uint32_t max_io_size);

/// What has to fit together: check_immediate(), and a session below the limits of memory.
Status check_together(const DaemonOptions& options);

/// All of the above, and the log level.
Status check(const DaemonOptions& options);

/// Bytes that one session pins.
std::uint64_t session_memory(const DaemonOptions& options);

}  // namespace rnbd::server
