// SPDX-License-Identifier: Apache-2.0
// NBD's transmission messages to the byte, in the simple style that the Linux driver speaks on the
// sockets it is given (drivers/block/nbd.c; no handshake, no structured replies). All integers are
// big endian. A cookie is opaque: it goes back as it came.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "common/endian.h"

namespace rnbd::client {

inline constexpr std::uint32_t kNbdRequestMagic = 0x25609513;
inline constexpr std::uint32_t kNbdReplyMagic = 0x67446698;

/// The driver's max_hw_sectors: no READ or WRITE is longer. TRIM and WRITE_ZEROES may be.
inline constexpr std::uint32_t kNbdMaxPayload = 32U << 20;

enum class NbdCommand : std::uint16_t {
  Read = 0,
  Write = 1,       ///< `length` bytes follow
  Disconnect = 2,  ///< has no reply
  Flush = 3,
  Trim = 4,
  WriteZeroes = 6,
};

inline constexpr std::uint16_t kNbdFua = 1U << 0;
inline constexpr std::uint16_t kNbdNoHole = 1U << 1;  ///< WRITE_ZEROES must not unmap

using NbdCookie = std::array<std::byte, 8>;

struct NbdRequestHeader {
  Be<std::uint32_t> magic;
  Be<std::uint16_t> flags;
  Be<std::uint16_t> command;
  NbdCookie cookie{};
  Be<std::uint64_t> offset;  ///< bytes
  Be<std::uint32_t> length;  ///< bytes
};
static_assert(sizeof(NbdRequestHeader) == 28 && offsetof(NbdRequestHeader, flags) == 4 &&
              offsetof(NbdRequestHeader, command) == 6 && offsetof(NbdRequestHeader, cookie) == 8 &&
              offsetof(NbdRequestHeader, offset) == 16 && offsetof(NbdRequestHeader, length) == 24);

/// Followed by the data of a READ that succeeded, and by nothing otherwise.
struct NbdReplyHeader {
  Be<std::uint32_t> magic;
  Be<std::uint32_t> error;
  NbdCookie cookie{};
};
static_assert(sizeof(NbdReplyHeader) == 16 && offsetof(NbdReplyHeader, error) == 4 &&
              offsetof(NbdReplyHeader, cookie) == 8);

// What the driver is told about the device when it is connected (NBD_ATTR_SERVER_FLAGS).
inline constexpr std::uint64_t kNbdHasFlags = 1U << 0;
inline constexpr std::uint64_t kNbdReadOnly = 1U << 1;
inline constexpr std::uint64_t kNbdSendFlush = 1U << 2;
inline constexpr std::uint64_t kNbdSendFua = 1U << 3;  ///< counts only with kNbdSendFlush
inline constexpr std::uint64_t kNbdSendTrim = 1U << 5;
inline constexpr std::uint64_t kNbdSendWriteZeroes = 1U << 6;  ///< Linux 6.1 ignores it
inline constexpr std::uint64_t kNbdCanMultiConn = 1U << 8;     ///< needed for two sockets or more

/// The number NBD has for an errno. The driver makes EIO of each, and logs it.
constexpr std::uint32_t to_nbd_error(int error) {
  switch (error) {
    case 0:
    case EPERM:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case EOPNOTSUPP:
    case ESHUTDOWN:
      return static_cast<std::uint32_t>(error);
    default:
      return EIO;
  }
}

}  // namespace rnbd::client
