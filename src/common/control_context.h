// SPDX-License-Identifier: Apache-2.0
// The control thread as the state machines see it: it runs what is posted, and calls back later.
// Asio stands behind it in the daemons (control/asio_context.h), a virtual clock in tests.
#pragma once

#include <memory>

#include "common/clock.h"
#include "common/executor.h"

namespace rnbd {

class ControlContext : public Executor {
 public:
  /// Destroying it, on the control thread, means that the task is not run.
  class Timer {
   public:
    virtual ~Timer() = default;
  };

  [[nodiscard]] virtual std::unique_ptr<Timer> call_after(Duration delay, Task task) = 0;
};

}  // namespace rnbd
