// SPDX-License-Identifier: Apache-2.0
// The queue half of a connection: queue pair, completion queue and completion channel, all its own,
// and a Binder where the adapter needs one.
// The control thread makes and ends it, the reaper destroys it; in between it belongs to the thread
// that posts and polls. That thread allocates nothing and takes no lock.
//
// The first sign of a break (a completion that failed, a post that was refused) is kept in
// failure() and told to the control thread, which alone may end the connection.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "transport/fabric.h"
#include "transport/verbs/binder.h"
#include "transport/verbs/connections.h"
#include "transport/verbs/device.h"
#include "transport/verbs/handles.h"

namespace rnbd::transport::verbs {

class Queue {
 public:
  /// The queue pair of `id`, which lives until end(). `owner` gets its asynchronous events until
  /// then. Errors: EINVAL, naming the device's limits, if `size` exceeds them; those of
  /// rdma_create_qp, ibv_create_cq and ibv_create_comp_channel.
  static Result<std::unique_ptr<Queue>> create(VerbsDevice& device, const CmId& id,
                                               const QueueSize& size, QueueEvents& owner,
                                               Connections& connections);
  ~Queue();

  // Control thread.
  /// The connection manager has made the pair ready to send: what it cannot be told is set here.
  void tune();
  /// Takes the pair from its id and stops it; returns when the adapter has let go of all memory. If
  /// that takes too long, it is destroyed here and now. To be called once, before it dies.
  void end();
  /// Why it broke, in libibverbs' words; nullptr while nothing is known to be wrong. Any thread.
  [[nodiscard]] const char* failure() const { return failure_.load(std::memory_order_acquire); }

  // The queue's thread; as in fabric.h.
  Status post(std::span<const WorkRequest> work);
  Status post_receives(std::span<const ReceiveRequest> receives);
  std::size_t poll(std::span<Completion> out);
  bool arm();
  [[nodiscard]] int wait_fd() const { return parts_.channel->fd; }

 private:
  /// What it has of the adapter; destroyed from the last to the first.
  struct Parts {
    CompletionChannel channel;
    CompletionQueue completions;
    QueuePair pair;
    std::unique_ptr<Binder> binder;  ///< null: the pair executes binds itself
  };
  static Result<Parts> make_parts(VerbsDevice& device, const CmId& id, const QueueSize& size);
  Queue(Parts parts, rdma_cm_id* id, VerbsDevice& device, Connections& connections,
        const QueueSize& size);
  bool drain();
  std::size_t poll_adapter(std::span<Completion> out);
  Status post_binds(std::span<const WorkRequest> work);
  Status post_sends(std::span<const WorkRequest> work);
  std::unexpected<Error> refused(int code, const char* call);
  void note_failure(const char* what);
  void take_signal();
  bool take_one_signal();
  bool drain_signals();

  Parts parts_;
  rdma_cm_id* id_;  ///< until end()
  VerbsDevice& device_;
  Connections& connections_;
  bool tuned_ = false;  ///< it may have carried something
  /// Signals taken: acknowledging takes a lock, so it is done once, for ibv_destroy_cq. Both sides
  /// count modulo 2^32.
  unsigned unacknowledged_ = 0;
  unsigned armed_ = 0;            ///< how often
  bool signal_due_ = false;       ///< something completed, and its signal has not been read
  std::vector<Completion> kept_;  ///< found by arm(), or of binds; not handed out yet
  std::atomic<const char*> failure_ = nullptr;
};

}  // namespace rnbd::transport::verbs
