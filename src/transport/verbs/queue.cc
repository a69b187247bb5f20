// SPDX-License-Identifier: Apache-2.0
// Posting and polling (queue.h).
#include "transport/verbs/queue.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/log.h"
#include "transport/verbs/translate.h"

namespace rnbd::transport::verbs {

namespace {

constexpr std::size_t kBatch = 32;  ///< requests or completions a call, on the stack

/// 0.64 ms. The connection manager asks for 655 ms, which a peer that finds no receive then sleeps.
constexpr std::uint8_t kReceiverNotReadyTimer = 12;

constexpr unsigned kArmsPerDrain = 16;  ///< so that signals of which two came do not pile up

/// Of the last work and the last receive, each.
constexpr std::uint64_t kDrainMark = UINT64_MAX;
constexpr std::uint32_t kDrainSlots = 1;
constexpr std::chrono::milliseconds kDrainTimeout{200};
constexpr std::chrono::microseconds kDrainPause{20};

Status check_size(const QueueSize& size, const Capabilities& limits) {
  if (size.send_work <= limits.max_send_work && size.receive_work <= limits.max_receive_work) {
    return {};
  }
  return fail(EINVAL, fmt::format("{} sends and {} receives are more than {} can queue ({} and {})",
                                  size.send_work, size.receive_work, limits.device,
                                  limits.max_send_work, limits.max_receive_work));
}

}  // namespace

Result<std::unique_ptr<Queue>> Queue::create(VerbsDevice& device, const CmId& id,
                                             const QueueSize& size, QueueEvents& owner,
                                             Connections& connections) {
  if (auto ok = check_size(size, device.capabilities()); !ok) return fail(std::move(ok.error()));
  auto channel = CompletionChannel::create(device.context());
  if (!channel) return fail(std::move(channel.error()));
  auto completions = CompletionQueue::create(
      device.context(), size.send_work + size.receive_work + 2 * kDrainSlots + 1, *channel,
      device.next_completion_vector(), nullptr);
  if (!completions) return fail(std::move(completions.error()));

  ibv_qp_init_attr attributes{};
  attributes.send_cq = completions->get();
  attributes.recv_cq = completions->get();
  attributes.cap = {.max_send_wr = size.send_work + kDrainSlots,
                    .max_recv_wr = size.receive_work + kDrainSlots,
                    .max_send_sge = 1,
                    .max_recv_sge = 1,
                    .max_inline_data = 0};
  attributes.qp_type = IBV_QPT_RC;
  auto pair = QueuePair::create(id, device.domain(), attributes);
  if (!pair) return fail(std::move(pair.error()));

  device.watch(*pair->get(), *completions->get(), owner);
  return std::unique_ptr<Queue>(new Queue(std::move(*channel), std::move(*completions),
                                          std::move(*pair), id.get(), device, connections));
}

Queue::Queue(CompletionChannel channel, CompletionQueue completions, QueuePair pair, rdma_cm_id* id,
             VerbsDevice& device, Connections& connections)
    : channel_(std::move(channel)),
      completions_(std::move(completions)),
      pair_(std::move(pair)),
      id_(id),
      device_(device),
      connections_(connections) {}

Queue::~Queue() { ibv_ack_cq_events(completions_.get(), unacknowledged_); }

void Queue::end() {
  // Nobody is told of it any more: neither of its events, nor the connection manager, which would
  // change the state of a pair that another thread destroys.
  device_.forget(*pair_.get(), *completions_.get());
  std::exchange(id_, nullptr)->qp = nullptr;
  if (!tuned_ || drain()) return;
  log::warn("a queue pair does not stop; it is destroyed at once");
  pair_.reset();
}

/// As the kernel's ib_drain_qp: once the last work and the last receive have come back from a pair
/// that is in its error state, so has everything.
bool Queue::drain() {
  ibv_qp_attr stopped{};
  stopped.qp_state = IBV_QPS_ERR;
  if (ibv_modify_qp(pair_.get(), &stopped, IBV_QP_STATE) != 0) return false;
  ibv_send_wr last_work{};
  last_work.wr_id = kDrainMark;
  last_work.opcode = IBV_WR_SEND;
  last_work.send_flags = IBV_SEND_SIGNALED;
  ibv_recv_wr last_receive{};
  last_receive.wr_id = kDrainMark;
  ibv_send_wr* refused_work = nullptr;
  ibv_recv_wr* refused_receive = nullptr;
  if (ibv_post_send(pair_.get(), &last_work, &refused_work) != 0 ||
      ibv_post_recv(pair_.get(), &last_receive, &refused_receive) != 0) {
    return false;
  }
  // Once more: soft-RoCE only looks for what is to be flushed when the state is set.
  if (ibv_modify_qp(pair_.get(), &stopped, IBV_QP_STATE) != 0) return false;
  const TimePoint deadline = Clock::now() + kDrainTimeout;
  std::array<ibv_wc, kBatch> raw;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (int marks = 0; marks < 2;) {
    const int count = ibv_poll_cq(completions_.get(), static_cast<int>(raw.size()), raw.data());
    if (count < 0 || (count == 0 && Clock::now() > deadline)) return false;
    if (count == 0) std::this_thread::sleep_for(kDrainPause);
    const auto found = std::span(raw).first(static_cast<std::size_t>(count));
    marks += static_cast<int>(std::ranges::count(found, kDrainMark, &ibv_wc::wr_id));
  }
  drain_signals();
  return true;
}

void Queue::tune() {
  tuned_ = true;
  ibv_qp_attr attributes{};
  attributes.min_rnr_timer = kReceiverNotReadyTimer;
  attributes.qp_access_flags =
      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND;
  const int code =
      ibv_modify_qp(pair_.get(), &attributes, IBV_QP_MIN_RNR_TIMER | IBV_QP_ACCESS_FLAGS);
  // Without it the connection still works, only slower.
  if (code != 0) log::warn("cannot tune a queue pair (ibv_modify_qp): {}", errno_name(code));
}

Status Queue::post(std::span<const WorkRequest> work) {
  // A call is a doorbell, and soft-RoCE's are system calls: there binds go into the chain.
  const auto is_call = [calls = !device_.soft_roce()](const WorkRequest& each) {
    return calls && each.kind == WorkKind::BindWindow;
  };
  while (!work.empty()) {
    const auto until = std::ranges::find_if(work, is_call);
    const auto plain = std::min(static_cast<std::size_t>(until - work.begin()), kBatch);
    auto done = plain != 0 ? post_chain(work.first(plain)) : post_bind(work.front());
    if (!done) return done;
    work = work.subspan(std::max<std::size_t>(plain, 1));
  }
  return {};
}

Status Queue::post_chain(std::span<const WorkRequest> work) {
  // Filled as far as they are used: this runs for every batch.
  std::array<ibv_send_wr, kBatch> requests;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<ibv_sge, kBatch> sources;       // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (std::size_t i = 0; i < work.size(); ++i) {
    if (work[i].kind == WorkKind::BindWindow) {
      requests[i] = to_bind_request(work[i]);
      if (work[i].key_to != nullptr) *work[i].key_to = requests[i].bind_mw.rkey;
    } else {
      requests[i] = to_work_request(work[i], sources[i]);
    }
    if (i != 0) requests[i - 1].next = &requests[i];
  }
  ibv_send_wr* first_refused = nullptr;
  const int code = ibv_post_send(pair_.get(), requests.data(), &first_refused);
  if (code != 0) return refused(code, "ibv_post_send");
  for (const ibv_send_wr& posted : std::span(requests).first(work.size())) {
    if (posted.opcode == IBV_WR_BIND_MW) posted.bind_mw.mw->rkey = posted.bind_mw.rkey;
  }
  return {};
}

Status Queue::post_bind(const WorkRequest& work) {
  RNBD_ASSERT(work.window != nullptr);
  ibv_mw_bind bind = to_bind(work);
  const int code =
      ibv_bind_mw(pair_.get(), static_cast<const VerbsWindow&>(*work.window).raw(), &bind);
  if (code != 0) return refused(code, "ibv_bind_mw");
  if (work.key_to != nullptr) *work.key_to = work.window->key();
  return {};
}

Status Queue::post_receives(std::span<const ReceiveRequest> receives) {
  std::array<ibv_recv_wr, kBatch> requests;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<ibv_sge, kBatch> targets;       // NOLINT(cppcoreguidelines-pro-type-member-init)
  while (!receives.empty()) {
    const auto batch = receives.first(std::min(receives.size(), kBatch));
    for (std::size_t i = 0; i < batch.size(); ++i) {
      requests[i] = to_receive_request(batch[i], targets[i]);
      if (i != 0) requests[i - 1].next = &requests[i];
    }
    ibv_recv_wr* first_refused = nullptr;
    const int code = ibv_post_recv(pair_.get(), requests.data(), &first_refused);
    if (code != 0) return refused(code, "ibv_post_recv");
    receives = receives.subspan(batch.size());
  }
  return {};
}

std::unexpected<Error> Queue::refused(int code, const char* call) {
  note_failure(call);
  return fail(code, fmt::format("the adapter refused work ({})", call));
}

void Queue::note_failure(const char* what) {
  const char* expected = nullptr;
  if (failure_.compare_exchange_strong(expected, what, std::memory_order_acq_rel)) {
    connections_.wake();
  }
}

std::size_t Queue::poll(std::span<Completion> out) {
  if (!early_ || out.empty()) return poll_adapter(out);
  out[0] = *early_;
  early_.reset();
  return 1 + poll_adapter(out.subspan(1));
}

std::size_t Queue::poll_adapter(std::span<Completion> out) {
  std::array<ibv_wc, kBatch> raw;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t total = 0;
  while (total < out.size()) {
    const auto room = std::min(out.size() - total, kBatch);
    const int count = ibv_poll_cq(completions_.get(), static_cast<int>(room), raw.data());
    if (count < 0) note_failure("ibv_poll_cq");
    if (count <= 0) break;
    for (const ibv_wc& each : std::span(raw).first(static_cast<std::size_t>(count))) {
      if (each.status != IBV_WC_SUCCESS) note_failure(ibv_wc_status_str(each.status));
      out[total++] = to_completion(each);
    }
    signal_due_ = true;
    if (static_cast<std::size_t>(count) < room) break;
  }
  return total;
}

bool Queue::arm() {
  if (early_) return false;
  take_signal();
  if (ibv_req_notify_cq(completions_.get(), /*solicited_only=*/0) != 0) {
    note_failure("ibv_req_notify_cq");
  }
  // What completed before the request above is not signalled, so one look more; what it finds has
  // left the adapter's queue and must be kept.
  Completion found;
  if (poll_adapter(std::span(&found, 1)) == 0) return true;
  early_ = found;
  return false;
}

/// Each arm() brings one signal at most, and only once something has completed; asking whether
/// there is another costs a system call. One that is late is asked for until it has come: some
/// adapters take an arm() for the one before as long as that one's signal has not been read.
void Queue::take_signal() {
  if (++armed_ % kArmsPerDrain == 0) {
    if (drain_signals()) signal_due_ = false;
  } else if (signal_due_) {
    signal_due_ = !take_one_signal();
  }
}

bool Queue::take_one_signal() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  if (ibv_get_cq_event(channel_.get(), &queue, &context) != 0) return false;
  ++unacknowledged_;
  return true;
}

/// False: there was none.
bool Queue::drain_signals() {
  bool any = false;
  while (take_one_signal()) any = true;
  return any;
}

}  // namespace rnbd::transport::verbs
