// SPDX-License-Identifier: Apache-2.0
// Always-on assertion for what only a programmer's error can break. Bytes of a peer, of the kernel
// or of a user never reach one: those are checked and answered as errors.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace rnbd {

[[noreturn]] inline void assertion_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
  std::abort();
}

}  // namespace rnbd

#define RNBD_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::rnbd::assertion_failed(#condition, __FILE__, __LINE__))
