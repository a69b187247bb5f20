// SPDX-License-Identifier: Apache-2.0
// The driver's end of a socket pair in a test, which fails when the other end breaks a rule; and
// what to write through it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "sim/nbd_socket_driver.h"

namespace rnbd::test {

/// Bytes that differ from those of any other seed.
inline std::vector<std::byte> pattern(std::size_t length, std::uint64_t seed) {
  std::vector<std::byte> bytes(length);
  std::uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  for (std::size_t i = 0; i < length; ++i) {
    if (i % 8 == 0) state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    bytes[i] = static_cast<std::byte>(state >> (8 * (i % 8)));
  }
  return bytes;
}

class FakeNbdKernel final : public sim::NbdSocketDriver {
 public:
  using NbdSocketDriver::NbdSocketDriver;

 private:
  void on_violation(const char* what) override { ADD_FAILURE() << what; }
};

}  // namespace rnbd::test
