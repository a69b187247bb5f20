// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/session_queue.h"

#include <algorithm>
#include <utility>

#include "common/assert.h"

namespace rnbd::rtrs {
namespace {

constexpr std::size_t kExpectedWaiters = limits::kMaxDevicesPerSession;

/// As long as an I/O message, so that its end lies where that of one with as much data lies.
constexpr std::uint16_t kVoidLength = 32;

/// What is left of a request that was abandoned while a server may still execute it: its permit is
/// free when this is answered, for which a server waits for the end of the first copy. It must not
/// do anything, and it must not touch what the first copy uses of the chunk: so it is as long, has
/// no data to send, and says nothing that a server understands.
void make_void(ClientRequest& request) {
  request.owner = nullptr;
  request.direction = Direction::Read;
  request.user_message.fill(std::byte{0xff});
}

}  // namespace

SessionQueue::SessionQueue(std::uint32_t index, SessionCore& core, WorkerContext& worker)
    : index_(index), core_(core), worker_(worker), sent_on_(core.depth(), kNotSent) {
  for (std::size_t path = 0; path < lanes_.size(); ++path) {
    lanes_[path].queue = this;
    lanes_[path].index = static_cast<std::uint8_t>(path);
  }
  waiting_.reserve(core.depth());
  waiters_.reserve(kExpectedWaiters);
}

void SessionQueue::connect(std::size_t path, ClientConnection& connection, const PathStats& stats) {
  Lane& lane = lanes_[path];
  RNBD_ASSERT(lane.connection == nullptr && lane.in_flight == 0);
  lane.connection = &connection;
  lane.stats = &stats;
  lane.drained = false;
  lanes_used_ = std::max(lanes_used_, path + 1);
  connection.serve(lane);
  send_waiting();
}

void SessionQueue::drain(std::size_t path) { lanes_[path].drained = true; }

void SessionQueue::disconnect(std::size_t path) { lanes_[path].connection = nullptr; }

std::uint32_t SessionQueue::send_again(std::size_t path) {
  Lane& lane = lanes_[path];
  RNBD_ASSERT(lane.connection == nullptr);
  std::vector<PermitId> again;
  for (std::size_t permit = 0; permit < sent_on_.size(); ++permit) {
    if (sent_on_[permit] != path) continue;
    sent_on_[permit] = kNotSent;
    const auto id = static_cast<PermitId>(permit);
    if (core_.request(id).owner == nullptr) make_void(core_.request(id));
    again.push_back(id);
  }
  lane.in_flight.store(0, std::memory_order_relaxed);
  // In front: they have waited longest.
  waiting_.insert(waiting_.begin(), again.begin(), again.end());
  resent_ += again.size();
  send_waiting();
  return static_cast<std::uint32_t>(again.size());
}

void SessionQueue::open_gate(bool new_life) {
  if (new_life) ++life_;
  gate_open_ = true;
  send_waiting();
}

bool SessionQueue::acquire(std::span<PermitId> permits, PermitWaiter& waiter) {
  // Who comes while others wait queues up behind them.
  if ((waiters_.empty() || waking_) && core_.permits.acquire(index_, permits)) return true;
  waiters_.push_back(&waiter);
  return false;
}

void SessionQueue::cancel_wait(PermitWaiter& waiter) {
  std::erase(waiters_, &waiter);
  if (waiters_.empty()) core_.permits.stop_starving(index_);
}

void SessionQueue::release(std::span<const PermitId> permits) {
  for (const PermitId permit : permits) {
    // A former process has sent something under it, which nobody goes on with.
    if (core_.request(permit).sent) {
      adopt({&permit, 1});
    } else {
      core_.release({&permit, 1});
    }
  }
}

void SessionQueue::wake_for_permits() {
  permits_came_ = true;
  worker_.signal(*this);
}

std::size_t SessionQueue::poll() {
  if (!permits_came_.exchange(false)) return 0;
  waking_ = true;
  while (!waiters_.empty()) {
    PermitWaiter* const first = waiters_.front();
    waiters_.erase(waiters_.begin());
    const std::size_t others = waiters_.size();
    first->on_permits_available();
    if (waiters_.size() > others && waiters_.back() == first) {
      std::ranges::rotate(waiters_, waiters_.end() - 1);  // refused again: it keeps its place
      break;
    }
  }
  waking_ = false;
  return 1;
}

void SessionQueue::submit(PermitId permit, Direction direction, std::uint32_t data_length,
                          std::span<const std::byte> user_message, RequestOwner& owner) {
  RNBD_ASSERT(data_length <= core_.max_io_size() && user_message.size() <= kMaxUserMessage);
  ClientRequest& request = core_.request(permit);
  RNBD_ASSERT(request.owner == nullptr);
  request.owner = &owner;
  request.life = life_;
  request.direction = direction;
  request.data_length = data_length;
  request.user_length = static_cast<std::uint16_t>(user_message.size());
  std::ranges::copy(user_message, request.user_message.begin());
  ++requests_;
  if (!gate_open_ || !waiting_.empty() || !send(permit)) waiting_.push_back(permit);
}

SessionQueue::Lane* SessionQueue::pick() {
  std::array<PathLoad, limits::kMaxClientPaths> loads;
  for (std::size_t path = 0; path < lanes_used_; ++path) {
    const Lane& lane = lanes_[path];
    PathLoad& load = loads[path];
    load.usable = lane.connection != nullptr && !lane.drained && lane.connection->ready();
    if (!load.usable) continue;
    load.in_flight = lane.in_flight.load(std::memory_order_relaxed);
    load.latency_ns = lane.stats->latency_ns.load(std::memory_order_relaxed);
  }
  const std::size_t picked = picker_.pick(core_.policy.load(std::memory_order_relaxed),
                                          std::span(loads).first(lanes_used_));
  return picked == PathPicker::kNone ? nullptr : &lanes_[picked];
}

bool SessionQueue::send(PermitId permit) {
  Lane* const lane = pick();
  if (lane == nullptr) return false;
  ClientRequest& request = core_.request(permit);
  if (request.life != life_ && request.owner != nullptr) {
    request.owner->on_request_renewed(permit,
                                      std::span(request.user_message).first(request.user_length));
    request.life = life_;
  }
  lane->connection->send(core_, permit);
  if (!std::exchange(request.sent, true)) request.trip.sent = worker_.now();
  request.trip.path = lane->index;
  sent_on_[permit] = lane->index;
  lane->count(+1);
  return true;
}

void SessionQueue::send_waiting() {
  if (!gate_open_) return;
  std::size_t sent = 0;
  while (sent < waiting_.size() && send(waiting_[sent])) ++sent;
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(sent));
}

bool SessionQueue::on_response(Lane& lane, PermitId permit, int error) {
  if (sent_on_[permit] != lane.index) return false;
  sent_on_[permit] = kNotSent;
  lane.count(-1);
  core_.request(permit).sent = false;
  RequestOwner* const owner = std::exchange(core_.request(permit).owner, nullptr);
  if (owner != nullptr) {
    owner->on_request_done(permit, error);
  } else {
    release({&permit, 1});
  }
  return true;
}

void SessionQueue::abandon(RequestOwner& owner) {
  for (std::size_t permit = 0; permit < sent_on_.size(); ++permit) {
    if (sent_on_[permit] == kNotSent) continue;
    ClientRequest& request = core_.request(static_cast<PermitId>(permit));
    if (request.owner == &owner) request.owner = nullptr;
  }
  std::erase_if(waiting_, [&](PermitId permit) {
    ClientRequest& request = core_.request(permit);
    if (request.owner != &owner) return false;
    make_void(request);
    if (!request.sent) release({&permit, 1});
    return !request.sent;
  });
}

void SessionQueue::adopt(std::span<const PermitId> permits) {
  for (const PermitId permit : permits) {
    ClientRequest& request = core_.request(permit);
    make_void(request);
    request.sent = true;
    request.data_length = core_.max_io_size();  // however much the first copy has
    request.user_length = kVoidLength;
    waiting_.push_back(permit);
  }
  send_waiting();
}

void SessionQueue::end() {
  for (const PermitId permit : waiting_) RNBD_ASSERT(core_.request(permit).owner == nullptr);
  core_.release(waiting_);
  waiting_.clear();
  worker_.remove(*this);
}

QueueCounters SessionQueue::counters() const {
  std::uint32_t sent = 0;
  for (const Lane& lane : lanes_) sent += lane.in_flight.load(std::memory_order_relaxed);
  return {.requests = requests_,
          .resent = resent_,
          .in_flight = sent,
          .waiting = static_cast<std::uint32_t>(waiting_.size())};
}

}  // namespace rnbd::rtrs
