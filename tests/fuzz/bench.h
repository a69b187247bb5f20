// SPDX-License-Identifier: Apache-2.0
// The tests' stages under a fuzzer: an expectation that fails ends the process, nothing is logged.
#pragma once

#include <gtest/gtest.h>

#include "common/log.h"

namespace rnbd::fuzz {

inline void fail_hard() {
  static const bool once = [] {
    GTEST_FLAG_SET(break_on_failure, true);
    spdlog::set_level(spdlog::level::off);
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace rnbd::fuzz
