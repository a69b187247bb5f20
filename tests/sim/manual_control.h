// SPDX-License-Identifier: Apache-2.0
// A control thread (common/control_context.h) on a ManualContext, so that its timers follow the
// test's clock. One thread.
#pragma once

#include <memory>
#include <utility>

#include "common/control_context.h"
#include "sim/manual_context.h"

namespace rnbd::sim {

class ManualControl final : public ControlContext {
 public:
  [[nodiscard]] ManualContext& context() { return context_; }

  void post(Task task) override { context_.post(std::move(task)); }

  [[nodiscard]] std::unique_ptr<Timer> call_after(Duration delay, Task task) override {
    return std::make_unique<ManualTimer>(context_, context_.now() + delay, std::move(task));
  }

 private:
  struct ManualTimer final : Timer, Timed {
    ManualTimer(ManualContext& on, TimePoint at, Task run)
        : context(on), due(at), task(std::move(run)) {
      context.add(static_cast<Timed&>(*this));
    }
    ~ManualTimer() override { context.remove(static_cast<Timed&>(*this)); }
    ManualTimer(const ManualTimer&) = delete;
    ManualTimer& operator=(const ManualTimer&) = delete;

    [[nodiscard]] TimePoint deadline() const override { return due; }
    void on_deadline(TimePoint) override {
      due = kNever;
      Task once = std::move(task);  // it may destroy the timer
      once();
    }

    ManualContext& context;
    TimePoint due;
    Task task;
  };

  ManualContext context_;
};

}  // namespace rnbd::sim
