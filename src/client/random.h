// SPDX-License-Identifier: Apache-2.0
// What is left to chance: names nobody else has, and pauses that do not coincide with others'. Any
// thread.
#pragma once

#include <type_traits>

#include <sys/random.h>

#include "common/assert.h"

namespace rnbd::client {

/// Random bytes of the kernel's.
template <typename T>
T random_value() {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 256, "one call gets them all");
  T value{};
  const ssize_t got = ::getrandom(&value, sizeof(value), 0);
  RNBD_ASSERT(got == static_cast<ssize_t>(sizeof(value)));
  return value;
}

}  // namespace rnbd::client
