// SPDX-License-Identifier: Apache-2.0
// The queue half of an in-memory connection: work, receives and completions, executed one request a
// step. Owned by its endpoint from open_queue to close_queue.
//
// A request passes: posted -> executed at the peer -> acknowledged -> polled. Its source is read
// when it is executed, the slot it takes is free again when a completion at or behind it has been
// polled, as on adapters; the completion of a bind frees those of binds only. Once broken, nothing
// is executed and everything left is flushed in order. One bind in two is executed while it is
// posted, in front of all that is sent, whatever becomes of that, and not signalled.
#pragma once

#include <cstdint>
#include <deque>

#include "common/unique_fd.h"
#include "sim/memory_device.h"
#include "sim/scheduler.h"
#include "transport/fabric.h"

namespace rnbd::sim {

class MemoryQueue;

/// What a queue knows of the connection it belongs to.
class Wire {
 public:
  virtual ~Wire() = default;
  [[nodiscard]] virtual bool loses() const = 0;    ///< what is sent from here
  [[nodiscard]] virtual bool is_deaf() const = 0;  ///< to what is sent from there
  /// Where work is executed; nullptr while that must wait.
  virtual MemoryQueue* far_queue() = 0;
  /// Nobody will ever answer, and nobody is going to say so.
  [[nodiscard]] virtual bool is_dead() const = 0;
  /// Something changed here that the far queue may have waited for.
  virtual void wake_far() = 0;
  /// Work that was under way when its queue ended while the line was cut: it may arrive late.
  virtual void strand(const transport::WorkRequest& work) = 0;
  /// Posted memory was changed before it was read.
  virtual void on_source_changed(const transport::WorkRequest& work) = 0;
};

class MemoryQueue {
 public:
  enum class State { Closed, Ready, Broken };

  /// Errors: those of eventfd(2).
  static Result<std::unique_ptr<MemoryQueue>> create(Scheduler& scheduler, MemoryDevice& device,
                                                     Wire& wire, transport::QueueSize size);
  ~MemoryQueue();

  Status post(std::span<const transport::WorkRequest> work);
  Status post_receives(std::span<const transport::ReceiveRequest> receives);
  std::size_t poll(std::span<transport::Completion> out);
  bool arm();
  [[nodiscard]] int wait_fd() const { return event_.get(); }

  [[nodiscard]] State state() const { return state_; }
  void make_ready();                            ///< the connection carries traffic from now on
  void break_off();                             ///< may be called again
  void retries_ran_out();                       ///< breaks it if anything was waiting for an answer
  void wake();                                  ///< tries again what had to wait
  void stand_still() { stands_still_ = true; }  ///< what is posted is never done, and never fails
  /// A peer's work that comes late, from a queue that is gone; lost if it is not welcome.
  void arrive_late(const transport::WorkRequest& work);

 private:
  struct Posted {
    transport::WorkRequest work;
    std::uint32_t window_key = 0;     ///< that a bind creates
    std::uint64_t source_digest = 0;  ///< of the source when posted
  };
  struct Entry {
    transport::Completion completion;
    std::uint32_t frees_work = 0;
    std::uint32_t frees_receives = 0;
  };
  enum class Outcome { Executed, MustWait, LocalError, Refused, NoAnswer };

  MemoryQueue(Scheduler& scheduler, MemoryDevice& device, Wire& wire, transport::QueueSize size,
              UniqueFd event);

  void execute_one();
  void acknowledge_one();
  void flush_one();

  Outcome execute(const Posted& posted);
  Outcome execute_bind(const Posted& posted);
  bool execute_early(const Posted& posted);
  [[nodiscard]] Entry end_of_work(std::uint64_t id, transport::CompletionStatus status, bool bind);
  Outcome receive(const transport::WorkRequest& work);  // called by the far queue
  Outcome receive_write(const transport::WorkRequest& work);
  Outcome receive_send(const transport::WorkRequest& work);

  void finish_receive(transport::CompletionKind kind, const transport::WorkRequest& work);
  void acknowledge_front();
  void fail_work(std::uint64_t id, transport::CompletionStatus status);
  void complete_work(std::uint64_t id, transport::CompletionStatus status, bool bind = false);
  void complete(const Entry& entry);
  [[nodiscard]] std::uint64_t digest(const transport::LocalMemory& source) const;

  Scheduler& scheduler_;
  MemoryDevice& device_;
  Wire& wire_;
  transport::QueueSize size_;
  UniqueFd event_;
  Agent execution_;
  Agent acknowledgement_;
  Agent flushing_;

  State state_ = State::Closed;
  std::deque<Posted> posted_;
  std::deque<transport::WorkRequest> executed_;  ///< not acknowledged yet
  std::deque<transport::ReceiveRequest> receives_;
  std::deque<Entry> completions_;
  std::uint32_t work_slots_ = 0;     ///< taken
  std::uint32_t receive_slots_ = 0;  ///< taken
  std::uint32_t silent_sends_ = 0;   ///< completed without a completion so far
  std::uint32_t silent_binds_ = 0;
  bool armed_ = false;
  bool stands_still_ = false;
};

}  // namespace rnbd::sim
