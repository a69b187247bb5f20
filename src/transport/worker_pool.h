// SPDX-License-Identifier: Apache-2.0
// A daemon's workers: as many as the process may use CPUs, and on none for good. What a worker
// waits for runs beside it, so one that had to stay on a busy CPU would wait where another is idle.
// Control thread.
#pragma once

#include <memory>
#include <sched.h>
#include <string>
#include <vector>

#include "common/result.h"
#include "transport/worker.h"

namespace rnbd {

class WorkerPool {
 public:
  /// Each looks for work at most `spin` before it sleeps. Errors: those of Worker::start.
  static Result<WorkerPool> start(const std::string& name, Duration spin) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ::sched_getaffinity(0, sizeof allowed, &allowed);
    WorkerPool pool;
    for (int number = 0; number < CPU_COUNT(&allowed); ++number) {
      auto worker = Worker::start(name + "/" + std::to_string(number), spin);
      if (!worker) return fail(worker.error());
      pool.workers_.push_back(std::move(*worker));
    }
    return pool;
  }

  [[nodiscard]] std::size_t size() const { return workers_.size(); }
  [[nodiscard]] Worker& operator[](std::size_t index) { return *workers_[index]; }

  [[nodiscard]] std::vector<WorkerContext*> contexts() const {
    std::vector<WorkerContext*> contexts;
    contexts.reserve(workers_.size());
    for (const auto& worker : workers_) contexts.push_back(worker.get());
    return contexts;
  }

 private:
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace rnbd
