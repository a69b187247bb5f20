// SPDX-License-Identifier: Apache-2.0
// Threads for what blocks: netlink, sysfs, flushes, files. A job runs there, its answer on the
// control thread.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "common/executor.h"

namespace rnbd {

class BlockingPool {
 public:
  /// With one thread jobs are done in order.
  explicit BlockingPool(Executor& control, std::size_t threads = kThreads)
      : control_(control), threads_(threads) {}

  /// Runs `job`, then hands its result to `done` on the control thread.
  template <typename Job, typename Done>
  void run(Job job, Done done) {
    struct Work {
      Job job;
      Done done;
    };
    boost::asio::post(
        threads_, [this, work = std::make_shared<Work>(std::move(job), std::move(done))] {
          control_.post([work, result = work->job()]() mutable { work->done(std::move(result)); });
        });
  }

 private:
  static constexpr std::size_t kThreads = 4;
  Executor& control_;
  boost::asio::thread_pool threads_;
};

}  // namespace rnbd
