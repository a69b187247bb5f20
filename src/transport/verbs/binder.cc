// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/binder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "common/clock.h"
#include "transport/verbs/translate.h"

namespace rnbd::transport::verbs {

namespace {

constexpr std::size_t kBindsACall = 32;  ///< binds a call, on the stack

/// Nothing but the processor is waited for. A connection whose binds take longer is given up.
constexpr std::chrono::seconds kPatience{1};

Status advance(const QueuePair& pair, ibv_qp_attr attributes, ibv_qp_state state, int mask) {
  attributes.qp_state = state;
  const int code = ibv_modify_qp(pair.get(), &attributes, IBV_QP_STATE | mask);
  if (code != 0) return fail(code, "cannot make a queue pair for binds ready (ibv_modify_qp)");
  return {};
}

}  // namespace

Result<std::unique_ptr<Binder>> Binder::create(VerbsDevice& device) {
  auto completions = CompletionQueue::create(device.context(), kBindsACall);
  if (!completions) return fail(std::move(completions.error()));
  ibv_qp_init_attr attributes{};
  attributes.send_cq = completions->get();
  attributes.recv_cq = completions->get();
  attributes.cap = {.max_send_wr = kBindsACall,
                    .max_recv_wr = 1,
                    .max_send_sge = 1,
                    .max_recv_sge = 1,
                    .max_inline_data = 0};
  attributes.qp_type = IBV_QPT_UC;  // its binds are those of RC, and it has no timers
  auto pair = QueuePair::create(device.domain(), attributes);
  if (!pair) return fail(std::move(pair.error()));
  return std::unique_ptr<Binder>(new Binder(std::move(*completions), std::move(*pair)));
}

Status Binder::start(ibv_qp& connected) {
  ibv_qp_attr there{};
  ibv_qp_init_attr unused{};
  const int code = ibv_query_qp(
      &connected, &there, IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_PORT | IBV_QP_PKEY_INDEX, &unused);
  if (code != 0) return fail(code, "cannot ask a queue pair for its address (ibv_query_qp)");

  ibv_qp_attr here{};
  here.pkey_index = there.pkey_index;
  here.port_num = there.port_num;
  here.qp_access_flags = IBV_ACCESS_MW_BIND;
  here.ah_attr = there.ah_attr;
  here.path_mtu = there.path_mtu;
  here.dest_qp_num = pair_->qp_num;
  if (auto done =
          advance(pair_, here, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
      !done)
    return done;
  if (auto done = advance(pair_, here, IBV_QPS_RTR,
                          IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN);
      !done)
    return done;
  return advance(pair_, here, IBV_QPS_RTS, IBV_QP_SQ_PSN);
}

Status Binder::bind(std::span<const WorkRequest> work, std::vector<Completion>& done) {
  std::array<ibv_send_wr, kBindsACall> binds;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t count = 0;
  for (const WorkRequest& each : work) {
    if (each.kind != WorkKind::BindWindow) continue;
    if (count == kBindsACall) {
      if (auto executed = execute(std::span(binds).first(std::exchange(count, 0))); !executed)
        return executed;
    }
    ibv_send_wr& bind = binds[count++] = to_bind_request(each);
    if (each.key_to != nullptr) *each.key_to = bind.bind_mw.rkey;
    if (each.signalled) done.push_back({.id = each.id});
  }
  return execute(std::span(binds).first(count));
}

Status Binder::execute(std::span<ibv_send_wr> binds) {
  if (binds.empty()) return {};
  for (std::size_t i = 0; i < binds.size(); ++i) {
    const bool last = i + 1 == binds.size();
    binds[i].next = last ? nullptr : &binds[i + 1];
    binds[i].send_flags = last ? static_cast<unsigned>(IBV_SEND_SIGNALED) : 0U;
  }
  ibv_send_wr* refused = nullptr;
  if (const int code = ibv_post_send(pair_.get(), binds.data(), &refused); code != 0) {
    return fail(code, "the adapter refused binds (ibv_post_send)");
  }
  for (const ibv_send_wr& posted : binds) posted.bind_mw.mw->rkey = posted.bind_mw.rkey;
  return wait_for_last();
}

Status Binder::wait_for_last() {
  TimePoint deadline = kNever;
  for (bool late = false;;) {
    ibv_wc completion{};
    const int count = ibv_poll_cq(completions_.get(), 1, &completion);
    if (count < 0) return fail(EIO, "cannot look for the end of a bind (ibv_poll_cq)");
    if (count > 0 && completion.status == IBV_WC_SUCCESS) return {};
    if (count > 0)
      return fail(EIO, fmt::format("a bind failed: {}", ibv_wc_status_str(completion.status)));
    if (late) return fail(ETIMEDOUT, "the adapter does not end a bind");
    const TimePoint now = Clock::now();
    if (deadline == kNever) deadline = now + kPatience;
    late = now > deadline;  // and one look more: it may be this thread that was not run
    if (!late) std::this_thread::yield();
  }
}

}  // namespace rnbd::transport::verbs
