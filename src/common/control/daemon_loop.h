// SPDX-License-Identifier: Apache-2.0
// The control thread of a daemon, from start to stop: an io_context that watches descriptors and
// ends on SIGINT or SIGTERM. The daemon's main thread.
#pragma once

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>

#include "common/control/asio_context.h"
#include "common/control/exit_codes.h"
#include "common/log.h"
#include "common/notifier.h"
#include "common/result.h"

namespace rnbd::control {

class DaemonLoop {
 public:
  [[nodiscard]] AsioContext& context() { return context_; }
  [[nodiscard]] boost::asio::io_context& io() { return io_; }

  /// Calls `ready` whenever `fd`, which stays its owner's, is readable. Until the loop ends.
  void watch(int fd, std::function<void()> ready) {
    watched_.push_back(std::make_unique<Watched>(io_, fd, std::move(ready)));
    wait(*watched_.back());
  }

  /// Calls `handler` on each `signal` but the ones that end the loop.
  void on_signal(int signal, std::function<void()> handler) {
    others_.push_back(std::make_unique<OtherSignal>(io_, signal, std::move(handler)));
    wait_other(*others_.back());
  }

  /// Tells `notifier`, which outlives the loop, that the daemon is ready, once signals are taken;
  /// and then, as often as it wants to hear it, that this thread still turns.
  void report_to(Notifier& notifier) {
    context_.post([this, &notifier] {
      report(notifier, "READY=1");
      keep_reporting(notifier);
    });
  }

  /// Runs. On the first signal `stop` is called with a task that ends the loop; a second one ends
  /// it at once.
  void run(std::move_only_function<void(Executor::Task ended)> stop) {
    boost::asio::signal_set signals(io_, SIGINT, SIGTERM);
    wait_signal(signals, stop);
    io_.run();
  }

 private:
  struct Watched {
    Watched(boost::asio::io_context& io, int fd, std::function<void()> call)
        : descriptor(io, fd), ready(std::move(call)) {}
    ~Watched() { descriptor.release(); }
    boost::asio::posix::stream_descriptor descriptor;
    std::function<void()> ready;
  };

  struct OtherSignal {
    OtherSignal(boost::asio::io_context& io, int signal, std::function<void()> call)
        : set(io, signal), handler(std::move(call)) {}
    boost::asio::signal_set set;
    std::function<void()> handler;
  };

  static void report(Notifier& notifier, std::string_view state) {
    if (Status told = notifier.tell(state); !told) log::warn("{}", describe(told.error()));
  }

  void keep_reporting(Notifier& notifier) {
    if (!notifier.watchdog_interval()) return;
    report(notifier, "WATCHDOG=1");
    next_report_ = context_.call_after(*notifier.watchdog_interval(),
                                       [this, &notifier] { keep_reporting(notifier); });
  }

  void wait_other(OtherSignal& other) {
    other.set.async_wait([this, &other](const boost::system::error_code& error, int) {
      if (error) return;
      other.handler();
      wait_other(other);
    });
  }

  void wait(Watched& watched) {
    watched.descriptor.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                                  [this, &watched](const boost::system::error_code& error) {
                                    if (error) return;
                                    watched.ready();
                                    wait(watched);
                                  });
  }

  void wait_signal(boost::asio::signal_set& signals,
                   std::move_only_function<void(Executor::Task ended)>& stop) {
    signals.async_wait([&](const boost::system::error_code& error, int number) {
      if (error) return;
      if (std::exchange(stopping_, true)) {
        // Nothing is taken apart: what the kernel holds for us ends with the process.
        log::warn("stopped at once by {}", ::strsignal(number));
        std::_Exit(1);
      }
      log::info("stopping on {}", ::strsignal(number));
      wait_signal(signals, stop);
      stop([this] { io_.stop(); });
    });
  }

  boost::asio::io_context io_{1};
  AsioContext context_{io_};
  std::vector<std::unique_ptr<Watched>> watched_;
  std::vector<std::unique_ptr<OtherSignal>> others_;
  std::unique_ptr<ControlContext::Timer> next_report_;
  bool stopping_ = false;
};

/// A daemon's exit code for what its run came to, which is logged if it is an error.
inline int conclude(const Status& served) {
  if (served) return static_cast<int>(ExitCode::Ok);
  log::error("{}", describe(served.error()));
  return static_cast<int>(exit_code(served.error().code));
}

}  // namespace rnbd::control
