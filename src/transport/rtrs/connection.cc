// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "common/assert.h"
#include "transport/rtrs/wire.h"

namespace rnbd::rtrs {
namespace {

using transport::Completion;
using transport::CompletionKind;
using transport::CompletionStatus;

constexpr std::size_t kSmallReceive = sizeof(KeyResponse);
constexpr std::uint32_t kInfoSlot = UINT32_MAX;

Error explain(CompletionStatus status) {
  switch (status) {
    case CompletionStatus::Success:
      break;
    case CompletionStatus::Flushed:
      return {ECONNRESET, "the connection was ended"};
    case CompletionStatus::RemoteRefused:
      return {EREMOTEIO, "the peer refused an access to its memory"};
    case CompletionStatus::LocalError:
      return {EPROTO, "a message did not fit its receive, or a local key was wrong"};
    case CompletionStatus::PeerNotResponding:
      return {ETIMEDOUT, "the peer does not respond"};
    case CompletionStatus::Other:
      break;
  }
  return {EIO, "the adapter reported an error"};
}

/// Or the answer to one.
bool is_heartbeat(Immediate immediate) {
  return immediate.type() == ImmediateType::Heartbeat ||
         immediate.type() == ImmediateType::HeartbeatAck;
}

}  // namespace

Connection::~Connection() = default;

Status Connection::open(const transport::QueueSize& size) {
  chain_ = std::make_unique<WorkChain>(size.send_work);
  return endpoint_->open_queue(size);
}

std::unique_ptr<transport::Endpoint> Connection::give_back() {
  RNBD_ASSERT(!attached_);
  endpoint_->close_queue();
  region_.reset();
  return std::move(endpoint_);
}

Status Connection::post_receives(std::uint32_t count, std::size_t info_bytes) {
  info_bytes_ = info_bytes;
  auto memory = MemoryBlock::map(2 * info_bytes + count * kSmallReceive);
  if (!memory) return fail(memory.error());
  memory_ = std::move(*memory);
  auto region = endpoint_->device().register_region(memory_.bytes(), transport::RegionUse::Local);
  if (!region) return fail(region.error());
  region_ = std::move(*region);

  reposts_.reserve(count + 1);
  if (info_bytes > 0) reposts_.push_back(receive_request(kInfoSlot));
  for (std::uint32_t slot = 0; slot < count; ++slot) reposts_.push_back(receive_request(slot));
  Status posted = endpoint_->post_receives(reposts_);
  reposts_.clear();
  return posted;
}

transport::ReceiveRequest Connection::receive_request(std::uint32_t slot) const {
  const bool info = slot == kInfoSlot;
  const std::size_t offset = info ? 0 : 2 * info_bytes_ + slot * kSmallReceive;
  return {.id = Tag{static_cast<std::uint16_t>(WorkTag::Receive), 0, slot}.pack(),
          .address = memory_.bytes().data() + offset,
          .length = static_cast<std::uint32_t>(info ? info_bytes_ : kSmallReceive),
          .key = region_->local_key()};
}

void Connection::attach() {
  RNBD_ASSERT(!attached_);
  attached_ = true;
  worker_.post([this] {
    worker_.add(static_cast<Pollable&>(*this));
    worker_.add(static_cast<Timed&>(*this));
  });
}

void Connection::detach(Executor::Task let_go, Executor::Task idle) {
  RNBD_ASSERT(attached_);
  worker_.post([this, let_go = std::move(let_go), idle = std::move(idle)]() mutable {
    worker_.remove(static_cast<Pollable&>(*this));
    worker_.remove(static_cast<Timed&>(*this));
    failed_ = true;
    on_stopped();
    control_.post(std::move(let_go));
    on_idle_ = std::move(idle);
    check_idle();
  });
}

void Connection::check_idle() {
  if (on_idle_ && !busy()) control_.post(std::exchange(on_idle_, nullptr));
}

void Connection::close() {
  if (endpoint_ == nullptr) return;
  endpoint_->close_queue();
  region_.reset();
  endpoint_.reset();
}

std::size_t Connection::poll() {
  if (failed_) return 0;
  polled_beats_ = 0;
  const std::size_t count = endpoint_->poll(completions_);
  for (std::size_t i = 0; i < count && !failed_; ++i) handle(completions_[i]);
  if (!failed_ && count > 0) on_room();
  return count - polled_beats_;
}

void Connection::handle(const Completion& completion) {
  if (completion.status != CompletionStatus::Success) {
    fail_connection(explain(completion.status));
    return;
  }
  if (completion.kind != CompletionKind::Done) {
    on_receive(completion);
    return;
  }
  const Tag tag = Tag::unpack(completion.id);
  chain_->on_done(tag);
  if (tag.kind == static_cast<std::uint16_t>(WorkTag::Own)) on_own_work_done(tag.index);
}

void Connection::on_receive(const Completion& completion) {
  arrivals_.fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t slot = Tag::unpack(completion.id).index;
  const auto receive = receive_request(slot);
  const std::span<const std::byte> body(receive.address,
                                        std::min(completion.length, receive.length));
  if (slot == kInfoSlot) {
    if (completion.kind != CompletionKind::Receive) {
      fail_connection({EPROTO, "the peer sent something else where INFO was due"});
      return;
    }
    control_.post([this, message = std::vector<std::byte>(body.begin(), body.end())]() mutable {
      events_.on_info(std::move(message));
    });
    return;
  }
  reposts_.push_back(receive);
  want_flush();
  switch (completion.kind) {
    case CompletionKind::WriteImmediate: {
      const auto immediate = Immediate::from_wire(completion.immediate);
      if (is_heartbeat(immediate)) ++polled_beats_;
      on_immediate(immediate, false, {});
      break;
    }
    case CompletionKind::ReceiveImmediate:
      on_immediate(Immediate::from_wire(completion.immediate), true, body);
      break;
    case CompletionKind::ReceiveInvalidate:
      break;  // we ask for none, and one does no harm: it has used up a receive, no more
    case CompletionKind::Receive:
    case CompletionKind::Done:
      fail_connection({EPROTO, "the peer sent a message that RTRS does not have"});
      break;
  }
}

void Connection::flush() {
  if (failed_) return;
  Status posted = endpoint_->post_receives(reposts_);
  reposts_.clear();
  const bool look_again = chain_->has_signalled_bind();
  if (posted) posted = chain_->flush(*endpoint_);
  if (!posted) return fail_connection(posted.error());
  if (look_again && attached_) worker_.wake(*this);
  if (next_look_ == kNever && attached_ && chain_->in_use() > 0) {
    next_look_ = worker_.now() + limits::kStandstillLook;
    still_ = 0;
  }
}

void Connection::on_deadline(TimePoint now) {
  next_look_ = kNever;
  if (failed_ || chain_->in_use() == 0) return;
  next_look_ = now + limits::kStandstillLook;
  const std::uint32_t beats = beats_.load(std::memory_order_relaxed);
  const bool heard = std::exchange(seen_beats_, beats) != beats;
  const std::uint32_t done = chain_->sends_done();
  if (std::exchange(seen_done_, done) != done) {
    still_ = 0;
  } else if (still_ == 0) {
    still_ = 1;
    if (!chain_->has_room(1)) return;  // so there is work that is signalled
    chain_->add_mark({.kind = transport::WorkKind::Write});
    want_flush();
  } else if (heard && ++still_ > limits::kStandstillLooks) {
    next_look_ = kNever;
    fail_connection({ETIMEDOUT, "the adapter does nothing of what it was told"});
  }
}

void Connection::want_flush() {
  if (attached_) worker_.want_flush(*this);
}

void Connection::send_immediate(Immediate immediate) {
  if (failed_) return;
  if (!chain_->has_room(1)) return;  // heartbeats only: a queue that full is not silent
  chain_->add({.kind = transport::WorkKind::WriteImmediate, .immediate = immediate.value()});
  want_flush();
}

void Connection::send_info(std::span<const std::byte> message) {
  if (failed_) return;
  RNBD_ASSERT(message.size() <= info_bytes_);
  if (!chain_->has_room(1)) {
    fail_connection({EPROTO, "the peer filled the send queue before INFO"});
    return;
  }
  std::byte* const copy = memory_.bytes().data() + info_bytes_;
  std::memcpy(copy, message.data(), message.size());
  chain_->add({.kind = transport::WorkKind::Send,
               .source = {copy, static_cast<std::uint32_t>(message.size()), region_->local_key()}});
  if (attached_) {
    want_flush();
  } else {
    flush();
  }
}

void Connection::tell(void (ConnectionEvents::*what)()) {
  control_.post([this, what] { (events_.*what)(); });
}

void Connection::fail_connection(Error error) {
  if (std::exchange(failed_, true)) return;
  control_.post([this, error = std::move(error)] { events_.on_connection_failed(cid_, error); });
}

}  // namespace rnbd::rtrs
