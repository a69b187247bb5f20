// SPDX-License-Identifier: Apache-2.0
#include "client/io_plan.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/rnbd_wire.h"

namespace rnbd::client {
namespace {

using rtrs::Direction;
using wire::Operation;

constexpr std::uint32_t kSync = wire::kFlagSync;
constexpr std::uint32_t kSyncFua = wire::kFlagSync | wire::kFlagFua;

constexpr IoPlan plan(IoKind kind, Direction direction, bool data, Operation operation,
                      std::uint32_t flags) {
  return {.error = 0,
          .kind = kind,
          .direction = direction,
          .carries_data = data,
          .operation = std::to_underlying(operation) | flags};
}

constexpr std::uint64_t bytes_of(std::uint32_t sectors, const DeviceShape& shape) {
  const std::uint64_t bytes = std::uint64_t{sectors} * wire::kSectorSize;
  return bytes - bytes % shape.block_size;
}

bool range_is_sound(const NbdRequest& request, const DeviceShape& shape) {
  return request.length > 0 && request.offset % wire::kSectorSize == 0 &&
         request.length % wire::kSectorSize == 0 && request.offset <= shape.size_bytes &&
         request.length <= shape.size_bytes - request.offset;
}

IoPlan plan_zeroes(const NbdRequest& request, const DeviceShape& shape) {
  const bool fua = (request.flags & kNbdFua) != 0;
  // RNBD's WRITE_ZEROES may always unmap, and kernel servers do not take it with FUA.
  const bool literal = fua || (request.flags & kNbdNoHole) != 0 ||
                       bytes_of(shape.max_write_zeroes_sectors, shape) == 0;
  if (literal) {
    return plan(IoKind::ZeroData, Direction::Write, true, Operation::Write, fua ? kSyncFua : 0);
  }
  return plan(IoKind::ZeroRange, Direction::Write, false, Operation::WriteZeroes, 0);
}

IoPlan plan_command(const NbdRequest& request, const DeviceShape& shape) {
  switch (request.command) {
    case NbdCommand::Read:
      return plan(IoKind::Read, Direction::Read, true, Operation::Read, kSync);
    case NbdCommand::Write:
      return plan(IoKind::Write, Direction::Write, true, Operation::Write,
                  (request.flags & kNbdFua) != 0 ? kSyncFua : 0);
    case NbdCommand::Flush:
      // What the block layer's own flush becomes on a kernel client. It has to cover only what has
      // been answered, so that nothing in flight is waited for.
      return plan(IoKind::Flush, Direction::Read, false, Operation::Flush, kSyncFua);
    case NbdCommand::Trim: {
      IoPlan trim = plan(IoKind::Discard, Direction::Write, false, Operation::Discard, 0);
      if (bytes_of(shape.max_discard_sectors, shape) == 0) trim.error = EOPNOTSUPP;
      return trim;
    }
    case NbdCommand::WriteZeroes:
      return plan_zeroes(request, shape);
    case NbdCommand::Disconnect:
      break;  // never gets here: it asks for nothing
  }
  return {.error = EINVAL};
}

}  // namespace

IoPlan plan_io(const NbdRequest& request, const DeviceShape& shape) {
  IoPlan plan = plan_command(request, shape);
  const bool flags_known = (request.flags & ~(kNbdFua | kNbdNoHole)) == 0;
  const bool too_long = plan.kind == IoKind::Read && request.length > kNbdMaxPayload;
  const bool sound = plan.kind == IoKind::Flush || range_is_sound(request, shape);
  if (!flags_known || too_long || !sound) plan.error = EINVAL;
  return plan;
}

std::uint32_t piece_length(IoKind kind, std::uint64_t offset, std::uint32_t rest,
                           const DeviceShape& shape, std::uint32_t max_data) {
  std::uint64_t most = max_data;
  switch (kind) {
    case IoKind::Read:
    case IoKind::Write:
    case IoKind::ZeroData:
      break;
    case IoKind::Flush:
      return 0;
    case IoKind::Discard:
      most = bytes_of(shape.max_discard_sectors, shape);
      // A piece that ends inside a granule loses that granule: disks round discards inwards.
      if (rest > most && shape.discard_granularity != 0 && most >= shape.discard_granularity) {
        most -= (offset + most) % shape.discard_granularity;
      }
      break;
    case IoKind::ZeroRange:
      most = bytes_of(shape.max_write_zeroes_sectors, shape);
      break;
  }
  // A server that is opened again may have smaller limits than the one the request began with.
  most = std::max<std::uint64_t>(most, shape.block_size);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(most, rest));
}

}  // namespace rnbd::client
