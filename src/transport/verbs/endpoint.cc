// SPDX-License-Identifier: Apache-2.0
// A connection's life (endpoint.h). After an event was told to the owner, `this` may be gone.
#include "transport/verbs/endpoint.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/log.h"

namespace rnbd::transport::verbs {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// The kernel repeats an unanswered request for more than a minute; nobody wants to wait for that.
constexpr milliseconds kResolveTimeout = seconds(5);
constexpr milliseconds kConnectTimeout = seconds(10);
constexpr milliseconds kDisconnectTimeout = seconds(5);

/// 1.1 s. Soft-RoCE repeats without end whatever it is told; under load answers take longer than
/// shorter times, and repeats add to the load.
constexpr std::uint8_t kSoftRoceTimeout = 18;

// Reasons in a rejection (InfiniBand specification, 12.6.7.2).
constexpr int kReasonTimeout = 4;
constexpr int kReasonNobodyListens = 8;
constexpr int kReasonConsumer = 28;

/// No RDMA reads, so no depth for them. Receives are waited for without end: that is 7.
rdma_conn_param parameters(std::span<const std::byte> private_data) {
  RNBD_ASSERT(private_data.size() <= std::numeric_limits<std::uint8_t>::max());
  rdma_conn_param result{};
  result.private_data = private_data.data();
  result.private_data_len = static_cast<std::uint8_t>(private_data.size());
  result.responder_resources = 0;
  result.initiator_depth = 0;
  result.flow_control = 0;
  result.retry_count = 7;
  result.rnr_retry_count = 7;
  return result;
}

/// Whether the peer's program rejected us, and not its host. iWARP has no reasons, but only
/// programs give private data there.
bool is_programs(const CmEvent& event) {
  return event.status() == kReasonConsumer || (event.status() < 0 && !event.private_data().empty());
}

Error refusal(const CmEvent& event, const std::string& where) {
  const int reason = event.status();
  if (reason == kReasonNobodyListens || reason == -ECONNREFUSED) {
    return {ECONNREFUSED, fmt::format("nobody listens on {}", where)};
  }
  if (reason == kReasonTimeout) return {ETIMEDOUT, fmt::format("{} gave up", where)};
  return {ECONNREFUSED, fmt::format("the host of {} refuses, reason {}", where, reason)};
}

}  // namespace

VerbsEndpoint::VerbsEndpoint(Core& core, State state) : core_(core), state_(state) {
  core_.connections().add(*this);
}

VerbsEndpoint::~VerbsEndpoint() {
  core_.connections().remove(*this);
  if (state_ == State::Established) hang_up();
  close_queue();
  if (spoken_) core_.quiet_ids().take(std::move(id_));
}

void VerbsEndpoint::close_queue() {
  if (queue_ == nullptr) return;
  queue_->end();
  core_.reaper().take(std::move(queue_));
}

Result<std::unique_ptr<VerbsEndpoint>> VerbsEndpoint::dial(Core& core,
                                                           std::optional<CmAddress> source,
                                                           CmAddress destination, std::string where,
                                                           EndpointEvents& events) {
  auto channel = core.channel();
  if (!channel) return fail(std::move(channel.error()));
  std::unique_ptr<VerbsEndpoint> endpoint(new VerbsEndpoint(core, State::Resolving));
  endpoint->events_ = &events;
  endpoint->where_ = std::move(where);
  endpoint->source_ = source;
  endpoint->destination_ = destination;
  auto id = (*channel)->make_id(destination.port_space(), *endpoint);
  if (!id) return fail(std::move(id.error()));
  endpoint->id_ = std::move(*id);

  // Many connections leave from one source address; without this a port may seem taken.
  int reuse = 1;
  if (rdma_set_option(endpoint->id_.get(), RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &reuse,
                      sizeof(reuse)) != 0) {
    return fail(errno, "cannot share the source address (rdma_set_option)");
  }
  if (rdma_resolve_addr(endpoint->id_.get(), source ? source->get() : nullptr, destination.get(),
                        static_cast<int>(kResolveTimeout.count())) != 0) {
    const int code = errno;
    return fail(code, fmt::format("cannot reach {} (rdma_resolve_addr)", endpoint->where_));
  }
  return endpoint;
}

Result<std::unique_ptr<VerbsEndpoint>> VerbsEndpoint::requested(Core& core, CmId id) {
  auto device = core.device(*id->verbs);
  if (!device) return fail(std::move(device.error()));
  std::unique_ptr<VerbsEndpoint> endpoint(new VerbsEndpoint(core, State::Requested));
  endpoint->device_ = *device;
  endpoint->id_ = std::move(id);
  endpoint->spoken_ = true;
  CmChannel::adopt(endpoint->id_, *endpoint);
  endpoint->bound_acknowledgements();
  endpoint->where_ = endpoint->peer_address();
  return endpoint;
}

bool VerbsEndpoint::may_follow(State from, State to) {
  switch (to) {
    case State::Resolving:
    case State::Requested:
      return false;
    case State::Resolved:
      return from == State::Resolving;
    case State::Connecting:
      return from == State::Resolved;
    case State::Accepting:
      return from == State::Requested;
    case State::Established:
      return from == State::Connecting || from == State::Accepting;
    case State::Disconnecting:
      return from == State::Accepting || from == State::Established;
    case State::Ended:
      return from != State::Ended;
  }
  return false;
}

void VerbsEndpoint::enter(State next) {
  RNBD_ASSERT(may_follow(state_, next));
  state_ = next;
  deadline_ = kNever;
  watch_.reset();
  if (next == State::Connecting) deadline_ = Clock::now() + kConnectTimeout;
  if (next == State::Disconnecting) deadline_ = Clock::now() + kDisconnectTimeout;
  core_.connections().reschedule();
}

Device& VerbsEndpoint::device() {
  RNBD_ASSERT(device_ != nullptr);
  return *device_;
}

Status VerbsEndpoint::open_queue(const QueueSize& size) {
  RNBD_ASSERT(device_ != nullptr && !queue_);
  auto queue = Queue::create(*device_, id_, size, *this, core_.connections());
  if (!queue) return fail(std::move(queue.error()));
  queue_ = std::move(*queue);
  return {};
}

Status VerbsEndpoint::connect(std::span<const std::byte> private_data) {
  if (state_ != State::Resolved) return fail(ENOTCONN, fmt::format("{} is not resolved", where_));
  RNBD_ASSERT(queue_ != nullptr);
  if (!port_is_up(id_)) {
    enter(State::Ended);
    return fail(ENETDOWN, fmt::format("the link to {} is down", where_));
  }
  spoken_ = true;
  rdma_conn_param param = parameters(private_data);
  if (rdma_connect(id_.get(), &param) != 0) {
    const int code = errno;
    enter(State::Ended);
    return fail(code, fmt::format("cannot connect to {} (rdma_connect)", where_));
  }
  enter(State::Connecting);
  watch_ = std::make_unique<HostWatch>(core_, source_, *destination_, where_);
  return {};
}

Status VerbsEndpoint::accept(std::span<const std::byte> private_data) {
  if (state_ != State::Requested) return fail(ENOTCONN, fmt::format("{} went away", where_));
  RNBD_ASSERT(queue_ != nullptr);
  if (!port_is_up(id_)) {
    enter(State::Ended);
    return fail(ENETDOWN, fmt::format("the link to {} is down", where_));
  }
  rdma_conn_param param = parameters(private_data);
  if (rdma_accept(id_.get(), &param) != 0) {
    const int code = errno;
    enter(State::Ended);
    return fail(code, fmt::format("cannot accept {} (rdma_accept)", where_));
  }
  enter(State::Accepting);
  queue_->tune();
  return {};
}

void VerbsEndpoint::reject(std::span<const std::byte> private_data) {
  if (state_ != State::Requested) return;
  const rdma_conn_param param = parameters(private_data);
  enter(State::Ended);
  if (!port_is_up(id_)) return;
  if (rdma_reject(id_.get(), param.private_data, param.private_data_len) != 0) {
    log::debug("cannot reject {} (rdma_reject): {}", where_, errno_name(errno));
  }
}

void VerbsEndpoint::disconnect() {
  if (state_ == State::Disconnecting || state_ == State::Ended) return;
  const bool peer_may_know = may_follow(state_, State::Disconnecting);
  hang_up();
  if (state_ == State::Requested) {
    reject({});
  } else {
    enter(peer_may_know ? State::Disconnecting : State::Ended);
  }
}

std::string VerbsEndpoint::local_address() const {
  return address_text(*rdma_get_local_addr(id_.get()));
}

std::string VerbsEndpoint::peer_address() const {
  return address_text(*rdma_get_peer_addr(id_.get()));
}

void VerbsEndpoint::on_cm_event(CmEvent& event) {
  const char* what = rdma_event_str(event.type());
  switch (event.type()) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      on_address_resolved();
      break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      on_route_resolved();
      break;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
      end({event.error(), fmt::format("cannot reach {} ({})", where_, what)});
      break;
    case RDMA_CM_EVENT_UNREACHABLE:  // also told when the neighbour of a connection is lost
      break_off({event.error(), fmt::format("{} does not answer", where_)});
      break;
    case RDMA_CM_EVENT_REJECTED:
      on_refused(event);
      break;
    case RDMA_CM_EVENT_CONNECT_RESPONSE:  // told only if the queue was closed meanwhile
    case RDMA_CM_EVENT_CONNECT_ERROR:
      break_off(
          {event.error(), fmt::format("cannot set up the connection with {} ({})", where_, what)});
      break;
    case RDMA_CM_EVENT_ESTABLISHED:
      on_established(event);
      break;
    case RDMA_CM_EVENT_DISCONNECTED:
      on_disconnected();
      break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      break_off({ENODEV, "the RDMA device was removed"});
      break;
    case RDMA_CM_EVENT_ADDR_CHANGE:
      break_off({ENETDOWN, "the network interface's address has changed"});
      break;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:    // Long after the end; the kernel takes care of the wait.
    case RDMA_CM_EVENT_CONNECT_REQUEST:  // Listeners get requests.
    case RDMA_CM_EVENT_MULTICAST_JOIN:   // We join nothing.
    case RDMA_CM_EVENT_MULTICAST_ERROR:
      break;
  }
}

void VerbsEndpoint::on_address_resolved() {
  if (state_ != State::Resolving) return;
  auto device = core_.device(*id_->verbs);
  if (!device) {
    end(device.error());
    return;
  }
  device_ = *device;
  bound_acknowledgements();
  if (rdma_resolve_route(id_.get(), static_cast<int>(kResolveTimeout.count())) != 0) {
    end({errno, fmt::format("cannot find a route to {} (rdma_resolve_route)", where_)});
  }
}

void VerbsEndpoint::on_route_resolved() {
  if (state_ != State::Resolving) return;
  enter(State::Resolved);
  events_->on_resolved();
}

void VerbsEndpoint::on_refused(const CmEvent& event) {
  if (state_ == State::Connecting && is_programs(event)) {
    enter(State::Ended);
    events_->on_rejected(event.private_data());
    return;
  }
  break_off(refusal(event, where_));
}

void VerbsEndpoint::on_established(const CmEvent& event) {
  if (state_ == State::Connecting) {
    enter(State::Established);
    queue_->tune();
    events_->on_established(event.private_data());
  } else if (state_ == State::Accepting) {
    enter(State::Established);
    if (events_ != nullptr) events_->on_established({});
  } else {
    hang_up();  // The kernel could not say so to the peer before.
  }
}

void VerbsEndpoint::on_disconnected() {
  const bool asked_for = state_ == State::Disconnecting;
  break_off({ECONNRESET, asked_for ? "closed by this side" : "closed by the peer"});
}

void VerbsEndpoint::on_traffic() {
  if (state_ != State::Accepting) return;
  if (rdma_notify(id_.get(), IBV_EVENT_COMM_EST) != 0) {
    log::debug("cannot tell that {} sends (rdma_notify): {}", where_, errno_name(errno));
  }
}

void VerbsEndpoint::on_queue_failed(const char* what) { break_off({EIO, what}); }

void VerbsEndpoint::on_device_failed(const VerbsDevice& device) {
  if (device_ == &device) break_off({ENODEV, "the RDMA device failed"});
}

void VerbsEndpoint::on_port_down(const VerbsDevice& device, int port) {
  if (device_ == &device && id_->port_num == port) break_off({ENETDOWN, "the link is down"});
}

void VerbsEndpoint::on_check(TimePoint now) {
  // After disconnect() flushed work is what was asked for, and the peer's answer is waited for.
  const bool alive = state_ != State::Disconnecting && state_ != State::Ended;
  if (alive && queue_ != nullptr && queue_->failure() != nullptr) {
    break_off({EIO, fmt::format("work failed: {}", queue_->failure())});
    return;
  }
  if (now < deadline_) return;
  if (state_ == State::Disconnecting) {
    end({ETIMEDOUT, "closed by this side; the peer did not answer"});
  } else {
    break_off({ETIMEDOUT, fmt::format("{} does not answer", where_)});
  }
}

/// The connection manager would wait for seconds.
void VerbsEndpoint::bound_acknowledgements() {
  std::uint8_t timeout = core_.ack_timeout();
  if (device_->soft_roce()) timeout = std::max(timeout, kSoftRoceTimeout);
  if (rdma_set_option(id_.get(), RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                      sizeof(timeout)) != 0) {
    log::debug("cannot bound the wait for acknowledgements (rdma_set_option): {}",
               errno_name(errno));
  }
}

/// Flushes our work, as hanging up does, but says nothing to the peer.
void VerbsEndpoint::stop_queue() {
  if (id_->qp == nullptr) return;
  ibv_qp_attr stopped{};
  stopped.qp_state = IBV_QPS_ERR;
  if (const int code = ibv_modify_qp(id_->qp, &stopped, IBV_QP_STATE); code != 0) {
    log::debug("cannot stop the queue pair of {} (ibv_modify_qp): {}", where_, errno_name(code));
  }
}

/// Flushes our work and says so to the peer, or agrees to its saying so.
void VerbsEndpoint::hang_up() {
  if (!id_) return;
  if (!port_is_up(id_)) return stop_queue();
  if (rdma_disconnect(id_.get()) == 0) return;
  // Not connected, as far as the kernel knows. The queue is stopped all the same.
  log::debug("cannot disconnect {} (rdma_disconnect): {}", where_, errno_name(errno));
}

void VerbsEndpoint::break_off(const Error& cause) {
  hang_up();
  end(cause);
}

void VerbsEndpoint::end(const Error& cause) {
  if (state_ == State::Ended) return;
  const bool was_up = state_ == State::Established || state_ == State::Disconnecting;
  enter(State::Ended);
  if (events_ == nullptr) return;
  if (was_up) {
    events_->on_disconnected(cause.message);
  } else {
    events_->on_failed(cause);
  }
}

}  // namespace rnbd::transport::verbs
