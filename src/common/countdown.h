// SPDX-License-Identifier: Apache-2.0
// Joins what was handed to several threads: the last of a number of calls runs what comes next.
// Copies share the count, and all calls are made on one thread, the control thread. For setting up
// and taking down, not for the data path: it allocates.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "common/executor.h"

namespace rnbd {

class Countdown {
 public:
  /// `done` runs inside call number `count`; never, if that is 0.
  Countdown(std::size_t count, Executor::Task done)
      : state_(std::make_shared<State>(State{count, std::move(done)})) {}

  void operator()() const {
    if (--state_->left == 0) state_->done();
  }

 private:
  struct State {
    std::size_t left = 0;
    Executor::Task done;
  };
  std::shared_ptr<State> state_;
};

}  // namespace rnbd
