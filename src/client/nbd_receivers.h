// SPDX-License-Identifier: Apache-2.0
// Whether the nbd driver reads all of a device's sockets (drivers/block/nbd.c, recv_work).
//
// It reads each socket in an endless work of its own. If the kernel cannot start a thread for each
// within some milliseconds, under load, the work queue's rescuer takes all of them that still wait,
// one behind the other, and those behind the first never begin: whatever is asked for on their
// sockets is never answered, and nobody fails. Seen with Linux 6.1. Threads of a work queue say in
// their names what they are doing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace rnbd::client {

/// How many of the sockets of /dev/nbd`index` are being read; nothing if the kernel's threads
/// cannot be seen, as in a PID namespace. Blocks for as long as it takes to read `proc`.
std::optional<std::size_t> count_receivers(std::uint32_t index,
                                           const std::filesystem::path& proc = "/proc");

}  // namespace rnbd::client
