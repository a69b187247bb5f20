// SPDX-License-Identifier: Apache-2.0
// The heartbeat of one path, either side (rtrs.c:hb_work): on each tick, a path on which nothing
// arrived since the last one is asked once; after `missed_max` further silent ticks it is dead.
// Ticks count, not time: who was kept from running himself has not waited for the peer. Lives on
// the worker of connection 0, which sends and answers.
//
// The kernel's modules tick every 5 s, and notice after 30 to 35 s that a peer is silent. They
// answer at any rate, and so do we.
#pragma once

#include <cstdint>

#include "common/clock.h"
#include "transport/worker.h"

namespace rnbd::rtrs {

struct HeartbeatTiming {
  Duration interval = std::chrono::milliseconds(100);
  unsigned missed_max = 5;  ///< silence is noticed within two intervals more than that
};

/// What a heartbeat needs of its path. All on connection 0's worker.
class HeartbeatPath {
 public:
  virtual ~HeartbeatPath() = default;
  /// A count that grows with whatever arrives on any connection of the path.
  [[nodiscard]] virtual std::uint64_t arrivals() const = 0;
  /// Something has arrived since the last tick.
  virtual void on_alive() = 0;
  virtual void send_heartbeat() = 0;
  virtual void on_heartbeat_lost() = 0;
};

class Heartbeat final : public Timed {
 public:
  Heartbeat(HeartbeatPath& path, HeartbeatTiming timing, TimePoint now)
      : path_(path), timing_(timing), next_(now + timing.interval) {}

  [[nodiscard]] TimePoint deadline() const override { return next_; }

  void on_deadline(TimePoint now) override {
    next_ = now + timing_.interval;
    const std::uint64_t arrivals = path_.arrivals();
    if (arrivals != seen_) {
      missed_ = 0;
      path_.on_alive();
    }
    seen_ = arrivals;
    if (missed_ > timing_.missed_max) {
      next_ = kNever;
      path_.on_heartbeat_lost();
    } else if (missed_++ == 0) {
      path_.send_heartbeat();
    }
  }

 private:
  HeartbeatPath& path_;
  HeartbeatTiming timing_;
  TimePoint next_;
  std::uint64_t seen_ = 0;
  unsigned missed_ = 0;
};

}  // namespace rnbd::rtrs
