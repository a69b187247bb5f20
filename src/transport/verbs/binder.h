// SPDX-License-Identifier: Apache-2.0
// Binds windows for a connection over soft-RoCE, on a queue pair of its own that sends nothing.
//
// What soft-RoCE has to send again it takes from the oldest request on that is not acknowledged,
// and executes the binds behind that one a second time, too (Linux 6.1: req_retry and
// rxe_requester in drivers/infiniband/sw/rxe/rxe_req.c). The second time the window's key is not
// the expected one any more; the queue pair then neither sends nor completes anything again, and
// says nothing. A pair that sends nothing has nothing to send again.
//
// Linux 6.1 executes binds within the call that posts them. Where a thread of the kernel's does,
// the caller lets it run and looks.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "transport/fabric.h"
#include "transport/verbs/device.h"
#include "transport/verbs/handles.h"

namespace rnbd::transport::verbs {

class Binder {
 public:
  /// Control thread. Errors: those of ibv_create_cq and ibv_create_qp.
  static Result<std::unique_ptr<Binder>> create(VerbsDevice& device);

  /// Makes it ready to bind, at the port and address of `connected`, which is ready to send.
  /// Control thread. Errors: those of ibv_query_qp and ibv_modify_qp.
  Status start(ibv_qp& connected);

  /// Executes the binds among `work`, in order and before it returns; the completions of those that
  /// are signalled are added to `done`. At most one of each window. The connection's thread.
  /// Errors: EIO, ETIMEDOUT, those of ibv_post_send; the windows are of no use any more then.
  Status bind(std::span<const WorkRequest> work, std::vector<Completion>& done);

 private:
  Binder(CompletionQueue completions, QueuePair pair)
      : completions_(std::move(completions)), pair_(std::move(pair)) {}
  Status execute(std::span<ibv_send_wr> binds);
  Status wait_for_last();

  CompletionQueue completions_;
  QueuePair pair_;
};

}  // namespace rnbd::transport::verbs
