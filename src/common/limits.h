// SPDX-License-Identifier: Apache-2.0
// Every bound in one place, related to the others at compile time.
#pragma once

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace rnbd::limits {

// RTRS, as the kernel has it (drivers/infiniband/ulp/rtrs/rtrs-pri.h).
inline constexpr std::uint16_t kDefaultPort = 1234;
inline constexpr std::uint32_t kDefaultQueueDepth = 512;  ///< chunks of a session
inline constexpr std::uint32_t kMaxQueueDepth = 65535;
inline constexpr std::uint32_t kHeaderArea = 4096;          ///< of a chunk, behind the data
inline constexpr std::uint32_t kDefaultMaxIoSize = 126976;  ///< data bytes of a chunk
inline constexpr std::uint32_t kMaxChunkSize = 1U << 28;
inline constexpr std::uint32_t kServiceQueueDepth = 512;  ///< receives of connection 0
inline constexpr std::uint32_t kMaxConnections = 4096;    ///< of a path
inline constexpr unsigned kPayloadBits = 28;              ///< of an immediate

static_assert(kDefaultQueueDepth * (kDefaultMaxIoSize + kHeaderArea) == 64U << 20,
              "a session pins what the kernel's pins");

// A kernel client sends up to 128 segments behind its 32-byte message.
static_assert(kHeaderArea >= 32 + 8 + 16 * 128);

// Ours.

// Of a server, if its options do not say otherwise: of all clients, and of each. A kernel's client
// has one connection a processor, and one more, on each path of each session.
inline constexpr std::uint32_t kMaxSessions = 256;
inline constexpr std::uint32_t kMaxClientSessions = 64;
inline constexpr std::uint32_t kMaxPaths = 4096;
inline constexpr std::uint32_t kMaxPathsOfClient = 1024;
inline constexpr std::uint32_t kMaxConnectionsOfAll = 65536;
inline constexpr std::uint32_t kMaxConnectionsOfClient = 16384;
static_assert(kMaxConnectionsOfClient >= kMaxConnections);

inline constexpr std::uint32_t kMaxDevicesPerSession = 256;  ///< open at one time
inline constexpr std::size_t kMaxServerPaths = 128;          ///< of a session, ended ones included
inline constexpr std::size_t kMaxClientPaths = 16;           ///< of a session
inline constexpr std::size_t kMaxDiscoveries = 12;     ///< at once; each has a session's memory
inline constexpr std::uint32_t kSignalInterval = 32;   ///< one send in so many asks to be told
inline constexpr std::uint32_t kReceiveHeadroom = 64;  ///< receives beyond the queue depth
inline constexpr std::uint32_t kMaxSendQueue = (1U << 16) - 1;  ///< completions count modulo 2^16
inline constexpr std::size_t kPollBatch = 64;                   ///< completions handled in one go

// How long each step of a handshake may take.
inline constexpr std::chrono::seconds kConnectTimeout{10};  ///< one connection, resolving included
inline constexpr std::chrono::seconds kInfoTimeout{30};
inline constexpr std::uint16_t kNameAttempts = 8;            ///< for a session name that is in use
inline constexpr std::chrono::seconds kHalfOpenTimeout{30};  ///< server: from first REQ to INFO
inline constexpr std::chrono::milliseconds kReconnectTimeoutMin{1000};  ///< of an attempt
inline constexpr std::chrono::milliseconds kReconnectTimeoutMax{5000};
inline constexpr std::chrono::milliseconds kReconnectDelayMin{50};
inline constexpr std::chrono::milliseconds kReconnectDelayMax{500};

/// How long a server awaits a client that was lost, and keeps the chunks of its session; how many
/// devices are awaited.
inline constexpr std::chrono::seconds kKeepMemory{10};
inline constexpr std::size_t kMaxLostDevices = std::size_t{kMaxSessions} * kMaxDevicesPerSession;
inline constexpr std::chrono::milliseconds kDrainLook{10};  ///< between looks at a path drained

/// Between looks at a connection whose work is not done, and how many of them in a row may find
/// that nothing was.
inline constexpr std::chrono::seconds kStandstillLook{1};
inline constexpr unsigned kStandstillLooks = 5;

// Asking a server to end a path's life over another path.
inline constexpr std::chrono::milliseconds kFenceTimeout{1000};  ///< of one question
inline constexpr std::chrono::milliseconds kFencePause{20};      ///< before the next
inline constexpr unsigned kFenceRefusals = 25;  ///< of a server that will not do it: a kernel's

/// Do `queue_depth` chunks of `chunk_size` bytes fit an immediate, and a session's 32-bit sum?
constexpr bool chunks_fit(std::uint32_t queue_depth, std::uint32_t chunk_size) {
  const unsigned bits = static_cast<unsigned>(std::bit_width(queue_depth - 1)) +
                        static_cast<unsigned>(std::bit_width(chunk_size - 1));
  return queue_depth >= 1 && queue_depth <= kMaxQueueDepth && chunk_size > kHeaderArea &&
         chunk_size <= kMaxChunkSize && bits <= kPayloadBits &&
         std::uint64_t{queue_depth} * chunk_size < (std::uint64_t{1} << 32);
}
static_assert(chunks_fit(kDefaultQueueDepth, kDefaultMaxIoSize + kHeaderArea));

}  // namespace rnbd::limits
