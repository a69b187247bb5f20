// SPDX-License-Identifier: Apache-2.0
// A Worker (transport/worker.h) without a thread: the test turns it round by round, and decides
// what time it is. Every pollable is polled in every round, signalled or not, unless the owner
// wants it as it is with a thread (look_when_told), or says when something has come for a socket.
// Also stands in for the control thread, as an Executor. One thread.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "sim/network.h"
#include "transport/worker.h"

namespace rnbd::sim {

class ManualContext final : public WorkerContext {
 public:
  ManualContext() = default;
  ~ManualContext() override;  ///< everything that was added has been removed

  void post(Task task) override { tasks_.push_back(std::move(task)); }
  void signal(Pollable&) override { woken_ = true; }
  void add(Pollable& pollable) override;
  void remove(Pollable& pollable) override;
  void wake(Pollable& pollable) override;
  void want_flush(Pollable& pollable) override;
  void want_writable(Pollable&) override {}  // it is polled in the next round as it is
  void add(Timed& timed) override;
  void remove(Timed& timed) override;
  [[nodiscard]] TimePoint now() const override { return now_; }

  /// One round: what was posted, polls, timers that are due, flushes. False if nothing happened.
  bool run_once();

  [[nodiscard]] bool is_running() const { return running_; }  ///< within run_once()

  /// From now on a socket that had nothing to read is left alone until its owner wakes it, or
  /// stir_sockets(): looking at each one in each round takes most of a long run's time.
  void leave_quiet_sockets_alone() { patient_ = true; }
  void stir_sockets();

  /// From now on who had nothing is armed, and left alone until it is signalled or woken.
  void look_when_told() { strict_ = true; }

  /// Has a socket been read, written or let go of since this was asked last? Only then can its
  /// other end find anything new.
  bool take_socket_use() { return std::exchange(sockets_used_, false); }

  /// Lets time pass; timers run in the next round.
  void advance(Duration duration) { now_ += duration; }

  /// When the next timer is due; kNever if none is.
  [[nodiscard]] TimePoint next_deadline() const;

 private:
  struct Watched {
    Pollable* pollable = nullptr;  ///< null: removed during a round
    bool flush = false;
    bool socket = false;
    bool quiet = false;  ///< had nothing when it was last looked at
    bool armed = false;
  };

  bool run_tasks();
  bool poll_all();
  bool run_timers();
  bool flush_all();
  Watched& watched(const Pollable& pollable);
  [[nodiscard]] bool is_told(Watched& each) const;

  std::vector<Task> tasks_;
  std::vector<Watched> watched_;
  std::vector<Timed*> timed_;             ///< null: removed during a round
  TimePoint now_{std::chrono::hours(1)};  // so that "long ago" can be said
  bool running_ = false;
  bool woken_ = false;
  bool patient_ = false;
  bool strict_ = false;
  bool sockets_used_ = false;
};

/// Lets time pass for all of them alike.
void advance(Duration duration, std::initializer_list<ManualContext*> contexts);

}  // namespace rnbd::sim
