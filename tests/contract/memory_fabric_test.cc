// SPDX-License-Identifier: Apache-2.0
// The in-memory fabric under the contract, in order and in several random ones. What it promises
// beyond the contract is tested in tests/sim.
#include "contract/memory_under_test.h"

namespace rnbd::contract {
namespace {

ContractParam memory(std::string name, sim::MemoryFabricOptions options) {
  return {std::move(name), [options]() -> Result<std::unique_ptr<FabricUnderTest>> {
            return std::make_unique<MemoryUnderTest>(options);
          }};
}

INSTANTIATE_TEST_SUITE_P(Memory, FabricContract,
                         testing::Values(memory("InOrder", {}), memory("Seed1", {.seed = 1}),
                                         memory("Seed2", {.seed = 2}), memory("Seed3", {.seed = 3}),
                                         memory("Seed4", {.seed = 4})),
                         param_name);

}  // namespace
}  // namespace rnbd::contract
