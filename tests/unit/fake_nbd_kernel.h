// SPDX-License-Identifier: Apache-2.0
// The driver's end of a socket pair in a test, which fails when the other end breaks a rule.
#pragma once

#include <gtest/gtest.h>

#include "sim/nbd_socket_driver.h"

namespace rnbd::test {

class FakeNbdKernel final : public sim::NbdSocketDriver {
 public:
  using NbdSocketDriver::NbdSocketDriver;

 private:
  void on_violation(const char* what) override { ADD_FAILURE() << what; }
};

}  // namespace rnbd::test
