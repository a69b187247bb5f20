// SPDX-License-Identifier: Apache-2.0
// What becomes of an NBD request: the RNBD operation it maps to and the pieces it is cut into. Pure
// functions of the request and the device, called by BlockQueue for each request.
#pragma once

#include <cstdint>

#include "client/nbd_socket.h"
#include "transport/rtrs/request_channel.h"

namespace rnbd::client {

/// What the server said about a device when it opened it.
struct DeviceShape {
  std::uint64_t size_bytes = 0;
  std::uint32_t block_size = 512;              ///< logical, a multiple of 512
  std::uint32_t max_discard_sectors = 0;       ///< 0: the server does not discard
  std::uint32_t discard_granularity = 0;       ///< bytes
  std::uint32_t max_write_zeroes_sectors = 0;  ///< 0: zeroes are written like other data
};

enum class IoKind : std::uint8_t {
  Read,
  Write,
  Flush,
  Discard,
  ZeroRange,  ///< the server is told to zero
  ZeroData,   ///< zeroes travel
};

struct IoPlan {
  int error = 0;  ///< not 0: refuse with this errno
  IoKind kind = IoKind::Read;
  rtrs::Direction direction = rtrs::Direction::Read;
  bool carries_data = false;
  std::uint32_t operation = 0;  ///< wire::Io::rw
};

/// How to do `request`, which is no Disconnect. Errors: EINVAL for what the kernel should not have
/// sent, EOPNOTSUPP for a TRIM of a device that was not announced to take it.
IoPlan plan_io(const NbdRequest& request, const DeviceShape& shape);

/// Length in bytes of the next piece of a request that has `rest` bytes to go at byte `offset`.
/// `max_data`: most data bytes in one piece, a multiple of the block size. 0 for a Flush.
std::uint32_t piece_length(IoKind kind, std::uint64_t offset, std::uint32_t rest,
                           const DeviceShape& shape, std::uint32_t max_data);

}  // namespace rnbd::client
