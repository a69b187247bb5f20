// SPDX-License-Identifier: Apache-2.0
// What hostile peers are tried out on: the network in memory, in several orders of things, and real
// adapters where this host has any.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "sim/network.h"

namespace rnbd::test {

struct Order {
  std::string name;  ///< letters and digits
  std::uint64_t seed = 0;
  bool real = false;  ///< adapters: slower, and what is not decided by the test takes its time
  std::function<std::unique_ptr<sim::Network>()> make;

  friend void PrintTo(const Order& order, std::ostream* out) { *out << order.name; }
};

/// The orders that `seeds` give; and one over verbs, if this host has an address that leads to an
/// RDMA device.
std::vector<Order> orders(std::initializer_list<std::uint64_t> seeds);

/// For INSTANTIATE_TEST_SUITE_P: an order, and whether each answer brings a new key.
using OrderAndKeys = std::tuple<Order, bool>;
inline std::string order_name(const testing::TestParamInfo<OrderAndKeys>& info) {
  return std::get<0>(info.param).name + (std::get<1>(info.param) ? "NewKeys" : "OneKey");
}

}  // namespace rnbd::test
