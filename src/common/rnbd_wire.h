// SPDX-License-Identifier: Apache-2.0
// RNBD's messages to the byte, as the Linux kernel's rnbd modules speak them
// (drivers/block/rnbd/rnbd-proto.h, Linux 6.1 and 6.12). They travel as user messages of RTRS
// requests; the two responses are data of a read. All integers are little endian. Reserved bytes
// are sent zero and never looked at: kernel clients leave garbage in them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/endian.h"

namespace rnbd::wire {

inline constexpr std::uint8_t kRnbdMajor = 2;
inline constexpr std::uint32_t kSectorSize = 512;  ///< unit of every sector on the wire
inline constexpr std::size_t kNameField = 255;     ///< name fields, terminating NUL included

enum class MessageType : std::uint16_t {
  SessionInfo = 0,
  SessionInfoResponse = 1,
  Open = 2,
  OpenResponse = 3,
  Io = 4,
  Close = 5,
};

enum class AccessMode : std::uint8_t { ReadOnly = 0, ReadWrite = 1, Migration = 2 };

enum class Operation : std::uint8_t {
  Read = 0,
  Write = 1,
  Flush = 2,
  Discard = 3,
  SecureErase = 4,
  WriteZeroes = 5,
};

inline constexpr std::uint32_t kOperationMask = 0xff;
inline constexpr std::uint32_t kFlagSync = 0x100;
inline constexpr std::uint32_t kFlagFua = 0x200;

inline constexpr std::uint8_t kCacheFua = 0x1;
inline constexpr std::uint8_t kCacheWriteback = 0x2;

struct Header {
  Le<std::uint16_t> type;
  std::array<std::byte, 2> padding{};
};
static_assert(sizeof(Header) == 4);

/// SESS_INFO and its response.
struct SessionInfo {
  Header header;
  std::uint8_t version = kRnbdMajor;
  std::array<std::byte, 31> reserved{};
};
static_assert(sizeof(SessionInfo) == 36 && offsetof(SessionInfo, version) == 4);

struct Open {
  Header header;
  std::uint8_t access_mode = 0;
  std::uint8_t io_mode = 0;  ///< see IoMode; reserved in the kernel's protocol
  std::array<char, kNameField> device_name{};
  std::array<std::byte, 3> io_mode_mark{};
};
static_assert(sizeof(Open) == 264 && offsetof(Open, device_name) == 6 &&
              offsetof(Open, io_mode_mark) == 261);

struct OpenResponse {
  Header header;
  Le<std::uint32_t> device_id;
  Le<std::uint64_t> sectors;
  Le<std::uint32_t> max_hw_sectors;
  Le<std::uint32_t> max_write_zeroes_sectors;
  Le<std::uint32_t> max_discard_sectors;
  Le<std::uint32_t> discard_granularity;
  Le<std::uint32_t> discard_alignment;
  Le<std::uint16_t> physical_block_size;
  Le<std::uint16_t> logical_block_size;
  Le<std::uint16_t> max_segments;
  Le<std::uint16_t> secure_discard;
  std::uint8_t obsolete_rotational = 0;
  std::uint8_t cache_policy = 0;
  std::array<std::uint8_t, 6> disk_mark{};  ///< which disk it is, see DiskMark; behind io_mode_mark
  std::uint8_t io_mode = 0;                 ///< what the server chose; valid behind the mark
  std::array<std::byte, 3> io_mode_mark{};
};
/// As good as no other disk has the same one, and it survives restarts; all zero: not known. In
/// bytes that are reserved in the kernel's protocol.
using DiskMark = decltype(OpenResponse::disk_mark);
static_assert(sizeof(OpenResponse) == 56 && offsetof(OpenResponse, sectors) == 8 &&
              offsetof(OpenResponse, physical_block_size) == 36 &&
              offsetof(OpenResponse, cache_policy) == 45 && offsetof(OpenResponse, io_mode) == 52);

struct Io {
  Header header;
  Le<std::uint32_t> device_id;
  Le<std::uint64_t> sector;
  Le<std::uint32_t> rw;  ///< Operation | flags
  Le<std::uint32_t> size;
  Le<std::uint16_t> priority;
  std::array<std::byte, 6> padding{};
};
static_assert(sizeof(Io) == 32 && offsetof(Io, sector) == 8 && offsetof(Io, rw) == 16 &&
              offsetof(Io, priority) == 24);

struct Close {
  Header header;
  Le<std::uint32_t> device_id;
};
static_assert(sizeof(Close) == 8);

/// How the server does its I/O, IBNBD's `io_mode`. IBNBD carried it in the byte that RNBD made
/// reserved and that kernel clients now fill with garbage; so it counts only behind a mark in the
/// message's last three bytes, which peers that do not know it ignore. A server that knows it
/// answers with the same mark and the mode it uses.
enum class IoMode : std::uint8_t { ServerDefault = 0, BlockIo = 1, FileIo = 2 };
inline constexpr std::array<std::byte, 3> kIoModeMark = {std::byte{'i'}, std::byte{'o'},
                                                         std::byte{'m'}};

constexpr Header header(MessageType type) {
  return {.type = static_cast<std::uint16_t>(type), .padding = {}};
}

}  // namespace rnbd::wire
