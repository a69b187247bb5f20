// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/session_queue.h"

#include <algorithm>

#include "common/assert.h"

namespace rnbd::rtrs {
namespace {

constexpr std::size_t kExpectedWaiters = limits::kMaxDevicesPerSession;

}  // namespace

SessionQueue::SessionQueue(std::uint32_t index, SessionCore& core, WorkerContext& worker)
    : index_(index), core_(core), worker_(worker), sent_(core.depth()) {
  waiting_.reserve(core.depth());
  waiters_.reserve(kExpectedWaiters);
}

void SessionQueue::connect(ClientConnection& connection) {
  connection_ = &connection;
  connection.serve(*this);
}

void SessionQueue::open_gate(bool new_life) {
  if (new_life) ++life_;
  gate_open_ = true;
  send_waiting();
}

void SessionQueue::disconnect() {
  connection_ = nullptr;
  gate_open_ = false;
  for (std::size_t permit = 0; permit < sent_.size(); ++permit) {
    if (!sent_[permit]) continue;
    sent_[permit] = false;
    const auto id = static_cast<PermitId>(permit);
    if (core_.request(id).owner == nullptr) {
      release({&id, 1});
    } else {
      waiting_.push_back(id);
      ++resent_;
    }
  }
  in_flight_ = 0;
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

void SessionQueue::release(std::span<const PermitId> permits) { core_.release(permits); }

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
  request.owner = &owner;
  request.life = life_;
  request.direction = direction;
  request.data_length = data_length;
  request.user_length = static_cast<std::uint16_t>(user_message.size());
  std::ranges::copy(user_message, request.user_message.begin());
  ++requests_;
  if (!can_send() || !waiting_.empty() || !send(permit)) waiting_.push_back(permit);
}

bool SessionQueue::send(PermitId permit) {
  ClientRequest& request = core_.request(permit);
  if (request.life != life_) {
    request.owner->on_request_renewed(permit,
                                      std::span(request.user_message).first(request.user_length));
    request.life = life_;
  }
  if (!connection_->send(core_, permit)) return false;
  sent_[permit] = true;
  ++in_flight_;
  return true;
}

void SessionQueue::send_waiting() {
  if (!can_send()) return;
  std::size_t sent = 0;
  while (sent < waiting_.size() && send(waiting_[sent])) ++sent;
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(sent));
}

bool SessionQueue::on_response(PermitId permit, int error) {
  if (!sent_[permit]) return false;
  sent_[permit] = false;
  --in_flight_;
  RequestOwner* const owner = std::exchange(core_.request(permit).owner, nullptr);
  if (owner != nullptr) {
    owner->on_request_done(permit, error);
  } else {
    release({&permit, 1});
  }
  return true;
}

void SessionQueue::abandon(RequestOwner& owner) {
  for (std::size_t permit = 0; permit < sent_.size(); ++permit) {
    if (!sent_[permit]) continue;
    ClientRequest& request = core_.request(static_cast<PermitId>(permit));
    if (request.owner == &owner) request.owner = nullptr;
  }
  std::erase_if(waiting_, [&](PermitId permit) {
    if (core_.request(permit).owner != &owner) return false;
    core_.request(permit).owner = nullptr;
    release({&permit, 1});
    return true;
  });
}

QueueCounters SessionQueue::counters() const {
  return {.requests = requests_,
          .resent = resent_,
          .in_flight = in_flight_,
          .waiting = static_cast<std::uint32_t>(waiting_.size())};
}

}  // namespace rnbd::rtrs
