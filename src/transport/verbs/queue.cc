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
  auto parts = make_parts(device, id, size);
  if (!parts) return fail(std::move(parts.error()));
  device.watch(*parts->pair.get(), *parts->completions.get(), owner);
  return std::unique_ptr<Queue>(new Queue(std::move(*parts), id.get(), device, connections, size));
}

Result<Queue::Parts> Queue::make_parts(VerbsDevice& device, const CmId& id, const QueueSize& size) {
  std::unique_ptr<Binder> binder;
  if (size.binds && device.soft_roce()) {
    auto made = Binder::create(device);
    if (!made) return fail(std::move(made.error()));
    binder = std::move(*made);
  }
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
  return Parts{.channel = std::move(*channel),
               .completions = std::move(*completions),
               .pair = std::move(*pair),
               .binder = std::move(binder)};
}

Queue::Queue(Parts parts, rdma_cm_id* id, VerbsDevice& device, Connections& connections,
             const QueueSize& size)
    : parts_(std::move(parts)), id_(id), device_(device), connections_(connections) {
  kept_.reserve(size.send_work + 1);
}

Queue::~Queue() { ibv_ack_cq_events(parts_.completions.get(), unacknowledged_); }

void Queue::end() {
  // Nobody is told of it any more: neither of its events, nor the connection manager, which would
  // change the state of a pair that another thread destroys.
  device_.forget(*parts_.pair.get(), *parts_.completions.get());
  std::exchange(id_, nullptr)->qp = nullptr;
  parts_.binder.reset();
  if (!tuned_ || drain()) return;
  log::warn("a queue pair does not stop; it is destroyed at once");
  parts_.pair.reset();
}

/// As the kernel's ib_drain_qp: once the last work and the last receive have come back from a pair
/// that is in its error state, so has everything.
bool Queue::drain() {
  ibv_qp_attr stopped{};
  stopped.qp_state = IBV_QPS_ERR;
  if (ibv_modify_qp(parts_.pair.get(), &stopped, IBV_QP_STATE) != 0) return false;
  ibv_send_wr last_work{};
  last_work.wr_id = kDrainMark;
  last_work.opcode = IBV_WR_SEND;
  last_work.send_flags = IBV_SEND_SIGNALED;
  ibv_recv_wr last_receive{};
  last_receive.wr_id = kDrainMark;
  ibv_send_wr* refused_work = nullptr;
  ibv_recv_wr* refused_receive = nullptr;
  if (ibv_post_send(parts_.pair.get(), &last_work, &refused_work) != 0 ||
      ibv_post_recv(parts_.pair.get(), &last_receive, &refused_receive) != 0) {
    return false;
  }
  // Once more: soft-RoCE only looks for what is to be flushed when the state is set.
  if (ibv_modify_qp(parts_.pair.get(), &stopped, IBV_QP_STATE) != 0) return false;
  const TimePoint deadline = Clock::now() + kDrainTimeout;
  std::array<ibv_wc, kBatch> raw;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (int marks = 0; marks < 2;) {
    const int count =
        ibv_poll_cq(parts_.completions.get(), static_cast<int>(raw.size()), raw.data());
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
      ibv_modify_qp(parts_.pair.get(), &attributes, IBV_QP_MIN_RNR_TIMER | IBV_QP_ACCESS_FLAGS);
  // Without it the connection still works, only slower.
  if (code != 0) log::warn("cannot tune a queue pair (ibv_modify_qp): {}", errno_name(code));
  if (parts_.binder == nullptr) return;
  if (Status started = parts_.binder->start(*parts_.pair.get()); !started) {
    log::warn("{}", describe(started.error()));  // and the first bind will fail
  }
}

Status Queue::post(std::span<const WorkRequest> work) {
  // Binds first: what is left is one chain, one doorbell.
  if (auto done = post_binds(work); !done) return done;
  return post_sends(work);
}

Status Queue::post_binds(std::span<const WorkRequest> work) {
  if (parts_.binder != nullptr) {
    if (auto done = parts_.binder->bind(work, kept_); !done) {
      note_failure("a bind failed");
      return done;
    }
    return {};
  }
  for (const WorkRequest& each : work) {
    if (each.kind != WorkKind::BindWindow) continue;
    RNBD_ASSERT(each.window != nullptr);
    ibv_mw_bind bind = to_bind(each);
    const int code =
        ibv_bind_mw(parts_.pair.get(), static_cast<const VerbsWindow&>(*each.window).raw(), &bind);
    if (code != 0) return refused(code, "ibv_bind_mw");
    if (each.key_to != nullptr) *each.key_to = each.window->key();
  }
  return {};
}

Status Queue::post_sends(std::span<const WorkRequest> work) {
  // Filled as far as they are used: this runs for every batch.
  std::array<ibv_send_wr, kBatch> requests;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<ibv_sge, kBatch> sources;       // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t count = 0;
  const auto post_batch = [&]() -> Status {
    ibv_send_wr* first_refused = nullptr;
    const int code = ibv_post_send(parts_.pair.get(), requests.data(), &first_refused);
    count = 0;
    if (code != 0) return refused(code, "ibv_post_send");
    return {};
  };
  for (const WorkRequest& each : work) {
    if (each.kind == WorkKind::BindWindow) continue;
    if (count == kBatch) {
      if (auto done = post_batch(); !done) return done;
    }
    requests[count] = to_work_request(each, sources[count]);
    if (count != 0) requests[count - 1].next = &requests[count];
    ++count;
  }
  return count == 0 ? Status{} : post_batch();
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
    const int code = ibv_post_recv(parts_.pair.get(), requests.data(), &first_refused);
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
  if (kept_.empty()) return poll_adapter(out);
  const auto kept = std::span(kept_).first(std::min(kept_.size(), out.size()));
  std::ranges::copy(kept, out.begin());
  const std::size_t count = kept.size();
  kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count));
  return count + poll_adapter(out.subspan(count));
}

std::size_t Queue::poll_adapter(std::span<Completion> out) {
  std::array<ibv_wc, kBatch> raw;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t total = 0;
  while (total < out.size()) {
    const auto room = std::min(out.size() - total, kBatch);
    const int count = ibv_poll_cq(parts_.completions.get(), static_cast<int>(room), raw.data());
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
  if (!kept_.empty()) return false;
  take_signal();
  if (ibv_req_notify_cq(parts_.completions.get(), /*solicited_only=*/0) != 0) {
    note_failure("ibv_req_notify_cq");
  }
  // What completed before the request above is not signalled, so one look more; what it finds has
  // left the adapter's queue and must be kept.
  Completion found;
  if (poll_adapter(std::span(&found, 1)) == 0) return true;
  kept_.push_back(found);
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
  if (ibv_get_cq_event(parts_.channel.get(), &queue, &context) != 0) return false;
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
