// SPDX-License-Identifier: Apache-2.0
// Taking a fuzzer's bytes apart, from the front. What has run out reads as zeros, so that a shorter
// input means a simpler one.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace rnbd::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(std::as_bytes(std::span(data, size))) {}

  [[nodiscard]] bool empty() const { return left_.empty(); }

  /// At most `count` bytes; a view of the input.
  std::span<const std::byte> bytes(std::size_t count) {
    const auto taken = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(taken.size());
    return taken;
  }
  std::span<const std::byte> rest() { return bytes(left_.size()); }

  /// As many bytes as one byte says.
  std::vector<std::byte> string() {
    const auto taken = bytes(number<std::uint8_t>());
    return {taken.begin(), taken.end()};
  }

  template <typename T>
    requires std::is_integral_v<T>
  T number() {
    T value{};
    const auto taken = bytes(sizeof value);
    if (!taken.empty()) std::memcpy(&value, taken.data(), taken.size());
    return value;
  }
  bool flag() { return number<std::uint8_t>() % 2 != 0; }
  /// Below `bound`.
  std::uint32_t below(std::uint32_t bound) { return number<std::uint32_t>() % bound; }

 private:
  std::span<const std::byte> left_;
};

inline std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace rnbd::fuzz
