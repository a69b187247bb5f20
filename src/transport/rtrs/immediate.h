// SPDX-License-Identifier: Apache-2.0
// The 32 bits that come with a message: four of type, 28 of payload (rtrs-pri.h, rtrs.c). Host
// order here; the fabric puts them on the wire.
#pragma once

#include <bit>
#include <cstdint>

#include "common/limits.h"

namespace rnbd::rtrs {

enum class ImmediateType : std::uint8_t {
  Request = 0,
  Response = 1,
  ResponseInvalidated = 2,  ///< the same, after a SEND_WITH_INV
  Heartbeat = 8,
  HeartbeatAck = 9,
};

class Immediate {
 public:
  constexpr Immediate(ImmediateType type, std::uint32_t payload)
      : value_(static_cast<std::uint32_t>(type) << limits::kPayloadBits |
               (payload & kPayloadMask)) {}
  static constexpr Immediate from_wire(std::uint32_t value) { return Immediate(value); }

  /// A number that may be none of ImmediateType's: switch with a default.
  [[nodiscard]] constexpr ImmediateType type() const {
    return static_cast<ImmediateType>(value_ >> limits::kPayloadBits);
  }
  [[nodiscard]] constexpr std::uint32_t payload() const { return value_ & kPayloadMask; }
  [[nodiscard]] constexpr std::uint32_t value() const { return value_; }

 private:
  static constexpr std::uint32_t kPayloadMask = (1U << limits::kPayloadBits) - 1;
  explicit constexpr Immediate(std::uint32_t value) : value_(value) {}
  std::uint32_t value_;
};

/// Payload of a request: which chunk, and where in it the RTRS message begins. How the bits are
/// shared follows from the queue depth alone.
struct ChunkOffset {
  std::uint32_t chunk = 0;
  std::uint32_t offset = 0;

  static constexpr unsigned offset_bits(std::uint32_t queue_depth) {
    return limits::kPayloadBits - static_cast<unsigned>(std::bit_width(queue_depth - 1));
  }
  [[nodiscard]] constexpr std::uint32_t pack(std::uint32_t queue_depth) const {
    return chunk << offset_bits(queue_depth) | offset;
  }
  static constexpr ChunkOffset unpack(std::uint32_t payload, std::uint32_t queue_depth) {
    const unsigned bits = offset_bits(queue_depth);
    return {payload >> bits, payload & ((1U << bits) - 1)};
  }
};

/// Payload of a response: the chunk answered for, and 0 or a positive errno (9 bits).
struct Outcome {
  static constexpr int kMaxError = 511;

  std::uint32_t chunk = 0;
  std::uint32_t error = 0;

  [[nodiscard]] constexpr std::uint32_t pack() const {
    return (error & kErrorMask) << kChunkBits | (chunk & ((1U << kChunkBits) - 1));
  }
  static constexpr Outcome unpack(std::uint32_t payload) {
    return {payload & ((1U << kChunkBits) - 1), payload >> kChunkBits & kErrorMask};
  }

 private:
  static constexpr unsigned kChunkBits = 19;
  static constexpr std::uint32_t kErrorMask = 0x1ff;
};

}  // namespace rnbd::rtrs
