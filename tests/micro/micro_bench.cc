// SPDX-License-Identifier: Apache-2.0
// The cases by the clock, one core: build/release/bin/micro_bench [--benchmark_filter=REGEX]. What
// the in-memory fabric spends is in the figures of whole requests.
#include <benchmark/benchmark.h>

#include "common/log.h"
#include "micro/case.h"

namespace {

void run(benchmark::State& state, const rnbd::micro::Case& what) {
  const auto stage = what.make();
  stage->run(rnbd::micro::kBatch);
  while (state.KeepRunningBatch(rnbd::micro::kBatch)) stage->run(rnbd::micro::kBatch);
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const auto& each : rnbd::micro::all_cases()) {
    benchmark::RegisterBenchmark(each.name.c_str(),
                                 [each](benchmark::State& state) { run(state, each); });
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
