// SPDX-License-Identifier: Apache-2.0
// A daemon's workers: one for each CPU that the process may use, pinned to it. Control thread.
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
  /// Errors: those of Worker::start.
  static Result<WorkerPool> start(const std::string& name) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ::sched_getaffinity(0, sizeof allowed, &allowed);
    WorkerPool pool;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) continue;
      auto worker = Worker::start(name + "/" + std::to_string(cpu), cpu);
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
