// SPDX-License-Identifier: Apache-2.0
// The cases by the clock: build/release/bin/micro_bench [--benchmark_filter=REGEX]; each by one
// thread, and (NAME/threads:2) by two at once. What the in-memory fabric spends is in the figures
// of whole requests.
#include <benchmark/benchmark.h>
#include <memory>
#include <mutex>
#include <utility>

#include "common/log.h"
#include "micro/case.h"

namespace {

void run(benchmark::State& state, const rnbd::micro::Case& what) {
  const auto stage = what.make();
  stage->run(rnbd::micro::kBatch);
  while (state.KeepRunningBatch(rnbd::micro::kBatch)) stage->run(rnbd::micro::kBatch);
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}

/// The same by two threads at once, each with a stage of its own.
class TwoThreads {
 public:
  explicit TwoThreads(rnbd::micro::Case what) : what_(std::move(what)) {}

  void run(benchmark::State& state) {
    std::call_once(made_, [this] { stages_ = what_.make_two(); });
    rnbd::micro::Stage& stage = *stages_.at(static_cast<std::size_t>(state.thread_index()));
    stage.run(rnbd::micro::kBatch);
    while (state.KeepRunningBatch(rnbd::micro::kBatch)) stage.run(rnbd::micro::kBatch);
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
  }

 private:
  const rnbd::micro::Case what_;
  std::once_flag made_;
  rnbd::micro::StagePair stages_;
};

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const auto& each : rnbd::micro::all_cases()) {
    benchmark::RegisterBenchmark(each.name.c_str(),
                                 [each](benchmark::State& state) { run(state, each); });
    benchmark::RegisterBenchmark(each.name.c_str(), [two = std::make_shared<TwoThreads>(each)](
                                                        benchmark::State& state) {
      two->run(state);
    })->Threads(2);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
