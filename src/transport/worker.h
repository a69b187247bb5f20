// SPDX-License-Identifier: Apache-2.0
// A thread that runs to completion: it reaps what happened (mailbox, pollables, io_uring), runs the
// handlers, flushes what they queued (one chain of work per connection, one io_uring_enter), and
// sleeps in the ring when nothing is left. Control owns it; everything registered with it is
// touched on its thread only.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/cache_line.h"
#include "common/clock.h"
#include "common/executor.h"
#include "common/io_ring.h"
#include "common/mailbox.h"
#include "common/result.h"
#include "common/spin.h"

namespace rnbd {

/// Something a worker looks after: a connection's completion queue, an NBD socket. All calls on the
/// worker's thread.
class alignas(kCacheLine) Pollable {
 public:
  virtual ~Pollable() = default;

  /// Handles what has arrived, a bounded amount at a time; returns how much it was, but for what
  /// says nothing of more to come (0: idle).
  virtual std::size_t poll() = 0;

  /// After poll(): whatever arrives from now on is signalled without arm(), and until then poll()
  /// would find nothing but an end, at the price of a system call.
  [[nodiscard]] virtual bool drained() const { return false; }

  /// Hands out what handlers queued on this object since the last call. Called once per round for
  /// each object that asked with Worker::want_flush.
  virtual void flush() {}

  /// Asks for the next arrival to be signalled on wait_fd(). False if something has arrived
  /// meanwhile: then poll() comes first.
  virtual bool arm() { return true; }

  /// Signals arrivals; watched by the worker from add() to remove(). Negative: nothing does, and
  /// only Worker::wake brings it round.
  [[nodiscard]] virtual int wait_fd() const = 0;

 private:
  friend class Worker;
  std::uint32_t slot_ = 0;               ///< where its worker keeps it
  std::atomic<bool> signalled_ = false;  ///< by Worker::signal, not yet seen
};

/// Takes completions of ring operations it prepared under its own tags (Worker::add_ring_sink).
class RingSink {
 public:
  virtual ~RingSink() = default;
  virtual void on_ring_completion(std::uint32_t index, std::int32_t result,
                                  std::uint32_t flags) = 0;
};

/// Has something to do at certain times. Worker's thread.
class Timed {
 public:
  virtual ~Timed() = default;
  [[nodiscard]] virtual TimePoint deadline() const = 0;  ///< kNever: nothing to do
  virtual void on_deadline(TimePoint now) = 0;           ///< called when deadline() has passed
};

/// What a worker offers to the objects that live on it; the tests have a single-threaded one.
class WorkerContext : public Executor {
 public:
  /// wake() for any thread: takes no lock and allocates nothing. Nothing happens if the pollable
  /// has been removed meanwhile.
  virtual void signal(Pollable& pollable) = 0;

  // Worker's thread only, all of these.
  virtual void add(Pollable& pollable) = 0;
  virtual void remove(Pollable& pollable) = 0;  ///< allowed inside any of its own calls
  virtual void wake(Pollable& pollable) = 0;    ///< poll() it in the next round, signalled or not
  virtual void want_flush(Pollable& pollable) = 0;
  /// poll() it once its wait_fd() takes output again; arrivals alone are watched otherwise, since a
  /// socket becomes writable after every reply its peer reads.
  virtual void want_writable(Pollable& pollable) = 0;
  virtual void add(Timed& timed) = 0;
  virtual void remove(Timed& timed) = 0;
  [[nodiscard]] virtual TimePoint now() const = 0;  ///< taken once a round
};

class Worker final : public WorkerContext {
 public:
  /// Starts a thread called `name`, on whichever CPU the kernel likes, which looks for work at most
  /// `spin` before it sleeps. Returns when its ring is up. Errors: those of io_uring_setup(2) and
  /// eventfd(2).
  static Result<std::unique_ptr<Worker>> start(const std::string& name,
                                               Duration spin = Duration::zero());

  /// Ends the thread after what was posted before has run; joins it.
  ~Worker() override;

  void post(Task task) override;
  void signal(Pollable& pollable) override;

  void add(Pollable& pollable) override;
  void remove(Pollable& pollable) override;
  void wake(Pollable& pollable) override;
  void want_flush(Pollable& pollable) override;
  void want_writable(Pollable& pollable) override;
  void add(Timed& timed) override;
  void remove(Timed& timed) override;
  [[nodiscard]] TimePoint now() const override { return now_; }

  IoRing& ring() { return *ring_; }

  /// A kind for Tag under which `sink` gets its completions. Worker's thread.
  std::uint16_t add_ring_sink(RingSink& sink);
  void remove_ring_sink(std::uint16_t kind);  ///< its outstanding operations are dropped

 private:
  struct Watched {
    Pollable* pollable = nullptr;  ///< null: the slot is free
    std::uint16_t generation = 0;
    bool active = false;  ///< polled in every round until idle and armed
    bool woken = false;   ///< wants another round, whatever arm() says
    bool flush = false;
    bool writable = false;  ///< a poll for output is under way
    bool ended = false;     ///< nobody is at its other end; that is not signalled again
  };

  Worker(Mailbox mailbox, Duration spin) : mailbox_(std::move(mailbox)), spin_(spin) {}
  void run();
  bool round();  ///< true if anything was done
  bool poll_active();
  bool arm_active();
  void flush_all();
  bool reap();
  void dispatch(const RingCompletion& completion);
  void wake_signalled();
  void on_watch(const RingCompletion& completion);
  void watch(std::uint32_t slot);
  void watch_mailbox();
  bool run_timers();
  [[nodiscard]] TimePoint next_deadline() const;
  Watched& find(const Pollable& pollable);

  Mailbox mailbox_;
  Spin spin_;
  std::atomic<bool> signalled_ = false;  ///< some pollable is
  std::unique_ptr<IoRing> ring_;
  std::vector<Watched> watched_;
  std::vector<RingSink*> sinks_;
  std::vector<Timed*> timed_;
  bool flush_wanted_ = false;
  std::array<RingCompletion, 256> completions_{};
  TimePoint now_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace rnbd
