// SPDX-License-Identifier: Apache-2.0
// See orders.h.
#include "unit/orders.h"

#include "sim/memory_fabric.h"
#include "unit/verbs_network.h"

namespace rnbd::test {

std::vector<Order> orders(std::initializer_list<std::uint64_t> seeds) {
  std::vector<Order> result;
  for (const std::uint64_t seed : seeds) {
    result.push_back({"Seed" + std::to_string(seed), seed, false, [seed] {
                        return std::make_unique<sim::MemoryFabric>(
                            sim::MemoryFabricOptions{.seed = seed});
                      }});
  }
  if (VerbsNetwork::is_possible()) {
    result.push_back({"Verbs", 4711, true, [] { return std::make_unique<VerbsNetwork>(); }});
  }
  return result;
}

}  // namespace rnbd::test
