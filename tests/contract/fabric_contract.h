// SPDX-License-Identifier: Apache-2.0
// The laws of transport/fabric.h as tests, one suite for every implementation. An implementation
// brings a FabricUnderTest (two hosts and a way to let things happen) and instantiates
// FabricContract with it. One thread plays both hosts' control threads and queue threads.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include "common/result.h"
#include "transport/fabric.h"

namespace rnbd::contract {

/// Two hosts that reach each other, made anew for each test. Both may be the same Fabric.
class FabricUnderTest {
 public:
  virtual ~FabricUnderTest() = default;

  virtual transport::Fabric& client() = 0;
  virtual transport::Fabric& server() = 0;
  [[nodiscard]] virtual std::string client_address() const = 0;  ///< "ip:10.9.0.1", a source
  [[nodiscard]] virtual std::string server_address() const = 0;  ///< reachable from there

  /// Nobody listens on it, nor on the one after it.
  [[nodiscard]] virtual std::uint16_t port() const { return 1234; }

  /// Whether the adapter holds a window's user to the window's part of its region. Linux 6.1's rxe
  /// checks the window's key, but the bounds of its region (rxe_resp.c, check_rkey).
  [[nodiscard]] virtual bool checks_window_bounds() const { return true; }

  /// Tells waiting events of both hosts. Returns within some milliseconds, idle or not.
  virtual void pump() = 0;

  /// How long something that must happen may take.
  [[nodiscard]] virtual std::chrono::milliseconds patience() const {
    return std::chrono::seconds(20);
  }

  /// Lets everything happen that would happen by itself: for tests that nothing more does.
  virtual void settle() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
    while (std::chrono::steady_clock::now() < end) pump();
  }

  /// pump()s until `done` holds; false if patience() ran out.
  [[nodiscard]] bool wait_until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + patience();
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      pump();
    }
    return true;
  }
};

/// One implementation (and mode of it): a name of letters and digits, and how to make it. `make`
/// answering ENODEV skips the tests with its message: this host has nothing to run it on.
struct ContractParam {
  std::string name;
  std::function<Result<std::unique_ptr<FabricUnderTest>>()> make;

  friend void PrintTo(const ContractParam& param, std::ostream* out) { *out << param.name; }
};

/// The suite's fixture. In the implementation's test file:
///   INSTANTIATE_TEST_SUITE_P(Verbs, FabricContract, testing::Values(ContractParam{...}),
///   param_name);
class FabricContract : public testing::TestWithParam<ContractParam> {
 protected:
  void SetUp() override {
    auto made = GetParam().make();
    if (made) {
      fabric_ = std::move(*made);
    } else if (made.error().code == ENODEV) {
      GTEST_SKIP() << describe(made.error());
    } else {
      FAIL() << describe(made.error());
    }
  }

  FabricUnderTest& fabric() { return *fabric_; }

 private:
  std::unique_ptr<FabricUnderTest> fabric_;
};

inline std::string param_name(const testing::TestParamInfo<ContractParam>& info) {
  return info.param.name;
}

}  // namespace rnbd::contract
