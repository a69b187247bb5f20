// SPDX-License-Identifier: Apache-2.0
// See memory_endpoint.h.
#include "sim/memory_endpoint.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"
#include "sim/memory_fabric.h"

namespace rnbd::sim {

namespace {

std::vector<std::byte> padded(std::span<const std::byte> data, std::size_t size) {
  RNBD_ASSERT(data.size() <= size);
  std::vector<std::byte> result(data.begin(), data.end());
  result.resize(size);
  return result;
}

}  // namespace

MemoryEndpoint::MemoryEndpoint(MemoryFabric& fabric, MemoryDevice& device, std::string local,
                               transport::Address peer, std::optional<Error> failure)
    : fabric_(fabric),
      id_(fabric.add(*this)),
      device_(device),
      local_(std::move(local)),
      peer_text_(std::move(peer.text)),
      port_(peer.port),
      phase_(Phase::Resolving),
      requesting_(Agent::calling<&MemoryEndpoint::request>(fabric.scheduler(), this)),
      delivery_(Agent::calling<&MemoryEndpoint::deliver_one>(fabric.scheduler(), this)) {
  if (failure) {
    tell({.kind = NoticeKind::Failed, .error = std::move(*failure)});
  } else {
    tell({.kind = NoticeKind::Resolved});
  }
}

MemoryEndpoint::MemoryEndpoint(MemoryFabric& fabric, MemoryDevice& device, std::string local,
                               const MemoryEndpoint& peer)
    : fabric_(fabric),
      id_(fabric.add(*this)),
      device_(device),
      local_(std::move(local)),
      peer_text_(peer.local_),
      peer_(peer.id_),
      phase_(Phase::Requested),
      requesting_(Agent::calling<&MemoryEndpoint::request>(fabric.scheduler(), this)),
      delivery_(Agent::calling<&MemoryEndpoint::deliver_one>(fabric.scheduler(), this)) {}

MemoryEndpoint::~MemoryEndpoint() {
  disconnect();
  close_queue();
  fabric_.remove(*this);
}

void MemoryEndpoint::set_events(transport::EndpointEvents& events) {
  events_ = &events;
  delivery_.wake();
}

Status MemoryEndpoint::open_queue(const transport::QueueSize& size) {
  RNBD_ASSERT(!queue_ && phase_ != Phase::Resolving);
  auto queue = MemoryQueue::create(fabric_.scheduler(), device_, *this, size);
  if (!queue) return fail(queue.error());
  queue_ = std::move(*queue);
  return {};
}

Status MemoryEndpoint::connect(std::span<const std::byte> private_data) {
  if (phase_ != Phase::Resolved || !queue_) return fail(EINVAL, "cannot connect in this state");
  if (private_data.size() > kRequestData) return fail(EINVAL, "too much private data to connect");
  request_data_ = padded(private_data, kRequestData);
  phase_ = Phase::Connecting;
  requesting_.wake();
  return {};
}

Status MemoryEndpoint::accept(std::span<const std::byte> private_data) {
  if (phase_ != Phase::Requested || !queue_) return fail(EINVAL, "cannot accept in this state");
  if (private_data.size() > kReplyData) return fail(EINVAL, "too much private data to accept");
  phase_ = Phase::Accepted;
  queue_->make_ready();
  if (MemoryEndpoint* const other = peer();
      other != nullptr && other->phase_ == Phase::Connecting) {
    tell_peer({.kind = NoticeKind::Reply, .data = padded(private_data, kReplyData)});
  } else {
    tell({.kind = NoticeKind::Failed, .error = {ECONNRESET, peer_text_ + " no longer wants to"}});
  }
  return {};
}

void MemoryEndpoint::reject(std::span<const std::byte> private_data) {
  if (phase_ != Phase::Requested) return;
  phase_ = Phase::Ended;
  tell_peer({.kind = NoticeKind::Rejected, .data = padded(private_data, kRejectData)});
}

void MemoryEndpoint::disconnect() {
  switch (phase_) {
    case Phase::Requested:
      reject({});
      break;
    case Phase::Resolving:
    case Phase::Resolved:
      phase_ = Phase::Ended;
      break;
    case Phase::Connecting:
      phase_ = Phase::Ended;
      tell_peer({.kind = NoticeKind::Failed, .error = {ECONNRESET, peer_text_ + " gave up"}});
      break;
    case Phase::Accepted:
    case Phase::Connected:
      phase_ = Phase::Ending;
      tell_peer({.kind = NoticeKind::Ended, .error = {0, "the peer disconnected"}});
      inbox_.clear();
      tell({.kind = NoticeKind::Ended, .error = {0, "disconnected by us"}});
      break;
    case Phase::Ending:
    case Phase::Ended:
      break;
  }
  if (phase_ == Phase::Ended) inbox_.clear();
  if (queue_) queue_->break_off();
}

void MemoryEndpoint::close_queue() {
  if (!queue_) return;
  queue_.reset();
  wake_far();
}

Status MemoryEndpoint::post(std::span<const transport::WorkRequest> work) {
  return queue().post(work);
}

Status MemoryEndpoint::post_receives(std::span<const transport::ReceiveRequest> receives) {
  return queue().post_receives(receives);
}

std::size_t MemoryEndpoint::poll(std::span<transport::Completion> out) { return queue().poll(out); }

bool MemoryEndpoint::arm() { return queue().arm(); }

int MemoryEndpoint::wait_fd() const { return queue().wait_fd(); }

MemoryQueue& MemoryEndpoint::queue() const {
  RNBD_ASSERT(queue_);
  return *queue_;
}

MemoryEndpoint* MemoryEndpoint::peer() const { return fabric_.find(peer_); }

void MemoryEndpoint::refuse(const Error& error) {
  tell({.kind = NoticeKind::Failed, .error = error});
}

void MemoryEndpoint::wake() {
  requesting_.wake();
  delivery_.wake();
  if (queue_) queue_->wake();
}

void MemoryEndpoint::give_up() {
  std::erase_if(inbox_, [](const Notice& notice) { return notice.crosses; });
  if (phase_ == Phase::Connecting || phase_ == Phase::Accepted) {
    phase_ = Phase::Ending;
    tell({.kind = NoticeKind::Failed, .error = {ETIMEDOUT, peer_text_ + " does not answer"}});
  } else if (phase_ == Phase::Connected && queue_) {
    queue_->retries_ran_out();
  }
}

void MemoryEndpoint::stand_still() {
  if (queue_ != nullptr) queue_->stand_still();
}

void MemoryEndpoint::kill(const std::string& reason) {
  if (phase_ != Phase::Accepted && phase_ != Phase::Connected) return;
  phase_ = Phase::Ending;
  inbox_.clear();
  if (queue_) queue_->break_off();
  tell({.kind = NoticeKind::Ended, .error = {0, reason}});
}

void MemoryEndpoint::die(bool quiet) {
  if (quiet) {
    if (queue_) queue_->break_off();
  } else {
    disconnect();
  }
  phase_ = Phase::Ended;
  events_ = nullptr;
  inbox_.clear();
  close_queue();
  fabric_.remove(*this);
}

bool MemoryEndpoint::loses() const { return fabric_.loses(local_, peer_text_); }
bool MemoryEndpoint::is_deaf() const { return fabric_.loses(peer_text_, local_); }

MemoryQueue* MemoryEndpoint::far_queue() {
  MemoryEndpoint* const other = peer();
  if (other == nullptr || !other->queue_) return nullptr;
  return other->queue_->state() == MemoryQueue::State::Ready ? other->queue_.get() : nullptr;
}

bool MemoryEndpoint::is_dead() const {
  const bool told =
      std::ranges::any_of(inbox_, [](const Notice& notice) { return is_last(notice.kind); });
  if (told) return false;
  const MemoryEndpoint* const other = peer();
  if (other == nullptr || !other->queue_) return true;
  return other->queue_->state() == MemoryQueue::State::Broken;
}

void MemoryEndpoint::wake_far() {
  MemoryEndpoint* const other = peer();
  if (other != nullptr && other->queue_) other->queue_->wake();
}

void MemoryEndpoint::strand(const transport::WorkRequest& work) {
  fabric_.strand(local_, peer_text_, peer_, work);
}

void MemoryEndpoint::arrive_late(const transport::WorkRequest& work) {
  if (queue_) queue_->arrive_late(work);
}

void MemoryEndpoint::on_source_changed(const transport::WorkRequest&) {
  fabric_.count_changed_source();
}

void MemoryEndpoint::request() {
  if (phase_ != Phase::Connecting || peer_ != 0 || loses()) return;
  fabric_.request(*this, port_, request_data_);
}

void MemoryEndpoint::tell(Notice notice) {
  if (phase_ == Phase::Ended) return;
  inbox_.push_back(std::move(notice));
  delivery_.wake();
}

void MemoryEndpoint::tell_peer(Notice notice) {
  notice.crosses = true;
  if (MemoryEndpoint* const other = peer()) other->tell(std::move(notice));
}

void MemoryEndpoint::deliver_one() {
  if (inbox_.empty() || events_ == nullptr) return;
  if (inbox_.front().crosses && is_deaf()) return;
  Notice notice = std::move(inbox_.front());
  inbox_.pop_front();
  if (!inbox_.empty()) delivery_.wake();
  deliver(std::move(notice));
}

// Ends with the call of the event, which may destroy this.
void MemoryEndpoint::deliver(Notice notice) {
  switch (notice.kind) {
    case NoticeKind::Resolved:
      phase_ = Phase::Resolved;
      return events_->on_resolved();
    case NoticeKind::Reply:
      if (phase_ != Phase::Connecting) return;
      if (!queue_ || queue_->state() != MemoryQueue::State::Closed) {
        tell_peer({.kind = NoticeKind::Failed, .error = {ECONNRESET, local_ + " gave up"}});
        end();
        return events_->on_failed({EINVAL, "the queue was closed or broken while connecting"});
      }
      phase_ = Phase::Connected;
      tell_peer({.kind = NoticeKind::Established});
      inbox_.push_front({.kind = NoticeKind::Established, .data = std::move(notice.data)});
      delivery_.wake();
      queue_->make_ready();
      queue_->wake();
      return;
    case NoticeKind::Established:
      if (phase_ == Phase::Accepted) phase_ = Phase::Connected;
      return events_->on_established(notice.data);
    case NoticeKind::Rejected:
      end();
      return events_->on_rejected(notice.data);
    case NoticeKind::Failed:
      end();
      return events_->on_failed(notice.error);
    case NoticeKind::Ended:
      end();
      return events_->on_disconnected(notice.error.message);
  }
}

bool MemoryEndpoint::is_last(NoticeKind kind) {
  return kind == NoticeKind::Rejected || kind == NoticeKind::Failed || kind == NoticeKind::Ended;
}

void MemoryEndpoint::end() {
  phase_ = Phase::Ended;
  inbox_.clear();
  if (queue_) queue_->break_off();
}

}  // namespace rnbd::sim
