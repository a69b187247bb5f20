// SPDX-License-Identifier: Apache-2.0
// The control thread of a daemon: an Asio io_context, seen as a ControlContext. Any thread posts;
// timers are made and destroyed on the control thread.
#pragma once

#include <memory>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/control_context.h"

namespace rnbd::control {

class AsioContext final : public ControlContext {
 public:
  explicit AsioContext(boost::asio::io_context& context) : context_(context) {}

  void post(Task task) override {
    // Asio of this version copies handlers; tasks only move.
    boost::asio::post(context_, [held = std::make_shared<Task>(std::move(task))] { (*held)(); });
  }

  [[nodiscard]] std::unique_ptr<Timer> call_after(Duration delay, Task task) override {
    auto timer = std::make_unique<AsioTimer>(context_, delay);
    timer->timer.async_wait([held = std::make_shared<Task>(std::move(task)),
                             alive = std::weak_ptr<bool>(timer->alive)](const auto& error) {
      // A timer that has fired already cannot be cancelled any more; whether it may run can.
      if (!error && !alive.expired()) (*held)();
    });
    return timer;
  }

  [[nodiscard]] boost::asio::io_context& io() { return context_; }

 private:
  struct AsioTimer final : Timer {
    AsioTimer(boost::asio::io_context& context, Duration delay) : timer(context, delay) {}
    boost::asio::steady_timer timer;
    std::shared_ptr<bool> alive = std::make_shared<bool>();
  };

  boost::asio::io_context& context_;
};

}  // namespace rnbd::control
