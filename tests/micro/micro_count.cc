// SPDX-License-Identifier: Apache-2.0
// The cases for callgrind, which counts what happens inside micro_measured(); prints the name of
// each case and how many times it was done there, in the order of the counts. check_instructions
// runs it.
#include <cstdio>

#include "common/log.h"
#include "micro/case.h"

namespace {

constexpr std::size_t kTimes = 512;
static_assert(kTimes % rnbd::micro::kBatch == 0);

}  // namespace

extern "C" [[gnu::noinline]] void micro_measured(rnbd::micro::Stage& stage) { stage.run(kTimes); }

int main() {
  spdlog::set_level(spdlog::level::off);
  for (const auto& each : rnbd::micro::all_cases()) {
    const auto stage = each.make();
    stage->run(kTimes);  // everything has grown to its size
    micro_measured(*stage);
    std::printf("%s %zu\n", each.name.c_str(), kTimes);
  }
  return 0;
}
