// SPDX-License-Identifier: Apache-2.0
// What is left to chance: names nobody else has, and pauses that do not coincide with others'. Any
// thread.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <type_traits>

#include <sys/random.h>

#include "common/assert.h"

namespace rnbd::client {

/// Fills bytes with random ones, at most 256.
using RandomSource = std::function<void(std::span<std::byte>)>;

inline void kernel_random(std::span<std::byte> bytes) {
  const ssize_t got = ::getrandom(bytes.data(), bytes.size(), 0);
  RNBD_ASSERT(got == static_cast<ssize_t>(bytes.size()));
}

template <typename T>
T random_value(const RandomSource& source) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 256, "one call gets them all");
  T value{};
  source(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

}  // namespace rnbd::client
