// SPDX-License-Identifier: Apache-2.0
// The heartbeat of one path, either side (rtrs.c:hb_work): the peer is asked on a tick, and after
// `missed_max` further ticks on which nothing arrived the path is dead. Ticks count, not time: who
// was kept from running himself has not waited for the peer. Lives on the worker of connection 0,
// which sends and answers.
//
// The kernel's modules tick every 5 s, and notice after 30 to 35 s that a peer is silent. They
// answer at any rate, and so do we.
#pragma once

#include <cstdint>
#include <utility>

#include "common/clock.h"
#include "transport/worker.h"

namespace rnbd::rtrs {

struct HeartbeatTiming {
  Duration interval = std::chrono::milliseconds(100);
  unsigned missed_max = 5;  ///< silence is noticed one to two and a half intervals after that
};

/// What a heartbeat needs of its path. All on connection 0's worker.
class HeartbeatPath {
 public:
  virtual ~HeartbeatPath() = default;
  /// A count that grows with whatever arrives on any connection of the path.
  [[nodiscard]] virtual std::uint64_t arrivals() const = 0;
  /// Something has arrived since the last call.
  virtual void on_alive() = 0;
  virtual void send_heartbeat() = 0;
  virtual void on_heartbeat_lost() = 0;
};

enum class Asks : std::uint8_t {
  Always,   ///< on each tick, unless nothing came since it last did: a client, which times answers
  InDoubt,  ///< only if nothing arrived since the last tick: a server, whose clients do ask
};

class Heartbeat final : public Timed {
 public:
  Heartbeat(HeartbeatPath& path, HeartbeatTiming timing, Asks asks, TimePoint now)
      : path_(path), timing_(timing), asks_(asks), next_(now + timing.interval) {}

  [[nodiscard]] TimePoint deadline() const override { return next_; }

  void on_deadline(TimePoint now) override {
    next_ = now + timing_.interval;
    const std::uint64_t arrivals = path_.arrivals();
    if (std::exchange(seen_, arrivals) != arrivals) {
      silent_ = 0;
      asked_ = false;
      path_.on_alive();
    } else {
      ++silent_;
    }
    if (silent_ > timing_.missed_max) {
      next_ = kNever;
      path_.on_heartbeat_lost();
    } else if (!asked_ && (asks_ == Asks::Always || silent_ > 0)) {
      asked_ = true;
      path_.send_heartbeat();
    }
  }

  /// The peer asks: as long as it does so, who asks in doubt need not even tick.
  void on_asked(TimePoint now) {
    if (asks_ == Asks::Always) return;
    next_ = now + timing_.interval * 3 / 2;  // when the peer's next one is overdue
    seen_ = path_.arrivals();
    silent_ = 0;
    asked_ = false;
    path_.on_alive();
  }

 private:
  HeartbeatPath& path_;
  HeartbeatTiming timing_;
  Asks asks_;
  TimePoint next_;
  std::uint64_t seen_ = 0;
  unsigned silent_ = 0;  ///< ticks in a row
  bool asked_ = false;   ///< since something arrived
};

}  // namespace rnbd::rtrs
