// SPDX-License-Identifier: Apache-2.0
// A thread that runs what it is handed, in order. Workers, the control thread and the tests' single
// thread are executors; whoever owns state on one changes it from elsewhere only by posting.
#pragma once

#include <functional>

namespace rnbd {

class Executor {
 public:
  using Task = std::move_only_function<void()>;

  virtual ~Executor() = default;

  /// Runs `task` on this executor's thread, after everything posted before it. Any thread.
  /// Never runs it inside the call. May allocate: not for the data path.
  virtual void post(Task task) = 0;
};

}  // namespace rnbd
