// SPDX-License-Identifier: Apache-2.0
// Integers as they lie on a wire: an array of bytes in a fixed order, alignment 1, so that a struct
// of them has no padding and can be copied from and to a buffer as it is.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace rnbd {

template <std::unsigned_integral T>
constexpr T byteswap(T value) {
  T result = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    result = static_cast<T>(result << 8) | static_cast<T>(value & 0xff);
    value = static_cast<T>(value >> 8);
  }
  return result;
}

template <std::unsigned_integral T, std::endian Order>
class WireInteger {
 public:
  constexpr WireInteger() = default;
  constexpr WireInteger(T value)  // NOLINT(google-explicit-constructor): reads like the integer
      : bytes_(std::bit_cast<std::array<std::byte, sizeof(T)>>(to_wire(value))) {}
  constexpr operator T() const {  // NOLINT(google-explicit-constructor)
    return to_wire(std::bit_cast<T>(bytes_));
  }

 private:
  static constexpr T to_wire(T value) {
    if constexpr (Order == std::endian::native || sizeof(T) == 1) return value;
    return byteswap(value);
  }
  std::array<std::byte, sizeof(T)> bytes_{};
};

template <typename T>
using Le = WireInteger<T, std::endian::little>;
template <typename T>
using Be = WireInteger<T, std::endian::big>;

/// A wire struct copied out of `bytes` at `offset`. The caller has checked that it lies inside.
template <typename T>
  requires std::is_trivially_copyable_v<T>
T load(std::span<const std::byte> bytes, std::size_t offset = 0) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

/// A wire struct copied into `bytes` at `offset`. The caller has checked that it fits.
template <typename T>
  requires std::is_trivially_copyable_v<T>
void store(std::span<std::byte> bytes, const T& value, std::size_t offset = 0) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

}  // namespace rnbd
