// SPDX-License-Identifier: Apache-2.0
// RTRS's messages to the byte, as the Linux kernel's rtrs modules speak them
// (drivers/infiniband/ulp/rtrs/rtrs-pri.h; the same in Linux 6.1 and 6.12). Little endian; reserved
// bytes are sent zero and never looked at.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/endian.h"

namespace rnbd::rtrs {

inline constexpr std::uint16_t kMagic = 0x1bbd;
inline constexpr std::uint16_t kVersion = 0x0200;  ///< major 2, minor 0; majors must agree
inline constexpr std::size_t kNameField = 255;     ///< terminating NUL included

using Uuid = std::array<std::uint8_t, 16>;

/// Private data of a connection request.
struct ConnectRequest {
  std::uint8_t cma_version = 0;
  std::uint8_t ip_version = 0;
  Le<std::uint16_t> magic = kMagic;
  Le<std::uint16_t> version = kVersion;
  Le<std::uint16_t> cid;              ///< this connection's number
  Le<std::uint16_t> connections;      ///< of the path, service connection included
  Le<std::uint16_t> reconnect_count;  ///< attempts of this path, the first is 1
  Uuid path_uuid{};                   ///< names the path over reconnects
  Uuid session_uuid{};                ///< names the session over all its paths
  std::uint8_t flags = 0;             ///< kFirstConnection
  std::array<std::byte, 11> reserved{};
};
static_assert(sizeof(ConnectRequest) == 56 && offsetof(ConnectRequest, magic) == 2 &&
              offsetof(ConnectRequest, path_uuid) == 12 &&
              offsetof(ConnectRequest, session_uuid) == 28 &&
              offsetof(ConnectRequest, flags) == 44);

inline constexpr std::uint8_t kFirstConnection = 0x1;  ///< may create the session

/// Private data of an accept and of a reject.
struct ConnectResponse {
  Le<std::uint16_t> magic = kMagic;
  Le<std::uint16_t> version = kVersion;
  Le<std::uint16_t> error;  ///< 0, or a negative errno in two's complement
  Le<std::uint16_t> queue_depth;
  Le<std::uint32_t> max_io_size;
  Le<std::uint32_t> max_header_size;
  Le<std::uint32_t> flags;  ///< kNewKey
  std::array<std::byte, 36> reserved{};
};
static_assert(sizeof(ConnectResponse) == 56 && offsetof(ConnectResponse, max_io_size) == 8 &&
              offsetof(ConnectResponse, flags) == 16);

inline constexpr std::uint32_t kNewKey = 0x2;  ///< each answer carries the chunk's next key

enum class MessageType : std::uint16_t {
  InfoRequest = 0,
  InfoResponse = 1,
  Write = 2,
  Read = 3,
  KeyResponse = 4,
};

constexpr std::uint16_t wire_type(MessageType type) { return static_cast<std::uint16_t>(type); }

struct InfoRequest {
  Le<std::uint16_t> type = wire_type(MessageType::InfoRequest);
  std::array<char, kNameField> session_name{};
  std::array<std::byte, 15> reserved{};
};
static_assert(sizeof(InfoRequest) == 272);

/// Followed by `descriptors` Descriptors.
struct InfoResponse {
  Le<std::uint16_t> type = wire_type(MessageType::InfoResponse);
  Le<std::uint16_t> descriptors;
  std::array<std::byte, 4> reserved{};
};
static_assert(sizeof(InfoResponse) == 8);

struct Descriptor {
  Le<std::uint64_t> address;
  Le<std::uint32_t> key;
  Le<std::uint32_t> length;
};
static_assert(sizeof(Descriptor) == 16);

struct WriteMessage {
  Le<std::uint16_t> type = wire_type(MessageType::Write);
  Le<std::uint16_t> user_length;
};
static_assert(sizeof(WriteMessage) == 4);

/// Followed by `descriptors` (0 or 1) Descriptors.
struct ReadMessage {
  Le<std::uint16_t> type = wire_type(MessageType::Read);
  Le<std::uint16_t> user_length;
  Le<std::uint16_t> flags;  ///< kNeedInvalidate
  Le<std::uint16_t> descriptors;
};
static_assert(sizeof(ReadMessage) == 8);

inline constexpr std::uint16_t kNeedInvalidate = 0x1;

struct KeyResponse {
  Le<std::uint16_t> type = wire_type(MessageType::KeyResponse);
  Le<std::uint16_t> chunk;
  Le<std::uint32_t> key;
};
static_assert(sizeof(KeyResponse) == 8);

}  // namespace rnbd::rtrs
