// SPDX-License-Identifier: Apache-2.0
// The seam's work and completions in the words of libibverbs and back. Pure functions, any thread.
#pragma once

#include <infiniband/verbs.h>

#include "transport/fabric.h"

namespace rnbd::transport::verbs {

/// `work` without its link to the next request. `sge` is filled and pointed to, unless there is no
/// source. Not for BindWindow.
ibv_send_wr to_work_request(const WorkRequest& work, ibv_sge& sge);

/// BindWindow as libibverbs has it for type 1 windows: no work request, but a call.
ibv_mw_bind to_bind(const WorkRequest& work);

/// BindWindow as a work request, which only soft-RoCE's provider takes for a type 1 window: it is
/// what its call posts. The window has the key in there once it is posted; until then it may not be
/// in another one.
ibv_send_wr to_bind_request(const WorkRequest& work);

ibv_recv_wr to_receive_request(const ReceiveRequest& receive, ibv_sge& sge);

Completion to_completion(const ibv_wc& completion);

}  // namespace rnbd::transport::verbs
