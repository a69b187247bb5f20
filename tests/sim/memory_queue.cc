// SPDX-License-Identifier: Apache-2.0
// See memory_queue.h.
#include "sim/memory_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/eventfd.h>

#include "common/assert.h"

namespace rnbd::sim {

using transport::Completion;
using transport::CompletionKind;
using transport::CompletionStatus;
using transport::WorkKind;
using transport::WorkRequest;

Result<std::unique_ptr<MemoryQueue>> MemoryQueue::create(Scheduler& scheduler, MemoryDevice& device,
                                                         Wire& wire, transport::QueueSize size) {
  const transport::Capabilities& can = device.capabilities();
  if (size.send_work > can.max_send_work || size.receive_work > can.max_receive_work) {
    return fail(EINVAL, fmt::format("{} has no queues of {} and {} work requests", can.device,
                                    size.send_work, size.receive_work));
  }
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail(errno, "eventfd");
  return std::unique_ptr<MemoryQueue>(
      new MemoryQueue(scheduler, device, wire, size, std::move(event)));
}

MemoryQueue::MemoryQueue(Scheduler& scheduler, MemoryDevice& device, Wire& wire,
                         transport::QueueSize size, UniqueFd event)
    : scheduler_(scheduler),
      device_(device),
      wire_(wire),
      size_(size),
      event_(std::move(event)),
      execution_(Agent::calling<&MemoryQueue::execute_one>(scheduler, this)),
      acknowledgement_(Agent::calling<&MemoryQueue::acknowledge_one>(scheduler, this)),
      flushing_(Agent::calling<&MemoryQueue::flush_one>(scheduler, this)) {}

MemoryQueue::~MemoryQueue() { device_.land(this); }

Status MemoryQueue::post(std::span<const WorkRequest> work) {
  if (state_ == State::Closed) {
    break_off();
    return fail(ENOTCONN, "cannot post work before the connection is accepted or established");
  }
  if (work.size() > size_.send_work - work_slots_) {
    break_off();
    return fail(ENOMEM, fmt::format("cannot post {} work requests: {} of {} are taken", work.size(),
                                    work_slots_, size_.send_work));
  }
  for (const WorkRequest& request : work) {
    Posted posted{.work = request, .source_digest = digest(request.source)};
    if (request.kind == WorkKind::BindWindow) {
      RNBD_ASSERT(size_.binds && request.window != nullptr);
      posted.window_key = dynamic_cast<MemoryWindow&>(*request.window).renew_key();
      if (request.key_to != nullptr) *request.key_to = posted.window_key;
    }
    ++work_slots_;
    if (!execute_early(posted)) posted_.push_back(posted);
  }
  (state_ == State::Ready ? execution_ : flushing_).wake();
  if (device_.after_post) device_.after_post();
  return {};
}

Status MemoryQueue::post_receives(std::span<const transport::ReceiveRequest> receives) {
  if (receives.size() > size_.receive_work - receive_slots_) {
    break_off();
    return fail(ENOMEM, fmt::format("cannot post {} receives: {} of {} are taken", receives.size(),
                                    receive_slots_, size_.receive_work));
  }
  receives_.insert(receives_.end(), receives.begin(), receives.end());
  receive_slots_ += static_cast<std::uint32_t>(receives.size());
  if (state_ == State::Broken) {
    flushing_.wake();
  } else {
    wire_.wake_far();
  }
  return {};
}

std::size_t MemoryQueue::poll(std::span<Completion> out) {
  std::size_t count = 0;
  while (count < out.size() && !completions_.empty()) {
    const Entry& entry = completions_.front();
    out[count++] = entry.completion;
    work_slots_ -= entry.frees_work;
    receive_slots_ -= entry.frees_receives;
    completions_.pop_front();
  }
  return count;
}

bool MemoryQueue::arm() {
  if (!completions_.empty()) return false;
  eventfd_t count = 0;
  ::eventfd_read(event_.get(), &count);
  armed_ = true;
  return true;
}

void MemoryQueue::make_ready() {
  RNBD_ASSERT(state_ == State::Closed);
  state_ = State::Ready;
  wire_.wake_far();
}

void MemoryQueue::break_off() {
  if (state_ == State::Broken) return;
  if (state_ == State::Ready && wire_.loses()) {
    for (const Posted& posted : posted_) {
      if (posted.work.kind != WorkKind::BindWindow) wire_.strand(posted.work);
    }
  }
  state_ = State::Broken;
  device_.land(this);
  flushing_.wake();
  wire_.wake_far();
}

void MemoryQueue::arrive_late(const WorkRequest& work) {
  if (state_ == State::Ready) static_cast<void>(receive(work));
}

void MemoryQueue::retries_ran_out() {
  if (state_ != State::Ready) return;
  if (!executed_.empty()) {
    const std::uint64_t id = executed_.front().id;
    executed_.pop_front();
    fail_work(id, CompletionStatus::PeerNotResponding);
  } else if (!posted_.empty()) {
    const WorkRequest work = posted_.front().work;
    if (wire_.loses() && work.kind != WorkKind::BindWindow) wire_.strand(work);
    posted_.pop_front();
    fail_work(work.id, CompletionStatus::PeerNotResponding);
  }
}

void MemoryQueue::wake() {
  execution_.wake();
  acknowledgement_.wake();
}

void MemoryQueue::execute_one() {
  if (state_ != State::Ready || posted_.empty() || stands_still_) return;
  const Outcome outcome = execute(posted_.front());
  if (outcome == Outcome::MustWait) return;

  const WorkRequest work = posted_.front().work;
  posted_.pop_front();
  if (outcome == Outcome::Executed) {
    executed_.push_back(work);
    acknowledgement_.wake();
    if (!posted_.empty()) execution_.wake();
    return;
  }
  while (!executed_.empty()) acknowledge_front();  // an error is told behind all that went well
  fail_work(work.id, outcome == Outcome::Refused      ? CompletionStatus::RemoteRefused
                     : outcome == Outcome::LocalError ? CompletionStatus::LocalError
                                                      : CompletionStatus::PeerNotResponding);
}

MemoryQueue::Outcome MemoryQueue::execute(const Posted& posted) {
  const WorkRequest& work = posted.work;
  if (work.kind == WorkKind::BindWindow) return execute_bind(posted);
  if (wire_.loses()) return Outcome::MustWait;
  if (wire_.is_dead()) return Outcome::NoAnswer;
  MemoryQueue* const far = wire_.far_queue();
  if (far == nullptr) return Outcome::MustWait;
  if (!device_.allows_local(work.source.key, work.source.address, work.source.length)) {
    return Outcome::LocalError;
  }
  const bool changed = posted.source_digest != digest(work.source);
  const Outcome outcome = far->receive(work);
  if (outcome == Outcome::Executed && changed) wire_.on_source_changed(work);
  return outcome;
}

MemoryQueue::Outcome MemoryQueue::execute_bind(const Posted& posted) {
  const transport::LocalMemory& source = posted.work.source;
  const bool bound =
      device_.bind(dynamic_cast<MemoryWindow&>(*posted.work.window), posted.window_key,
                   posted.work.region, {source.address, source.length});
  return bound ? Outcome::Executed : Outcome::LocalError;
}

/// Binds among themselves keep their order.
bool MemoryQueue::execute_early(const Posted& posted) {
  const auto is_bind = [](const WorkRequest& each) { return each.kind == WorkKind::BindWindow; };
  const WorkRequest& work = posted.work;
  if (!is_bind(work) || state_ == State::Closed ||
      std::ranges::any_of(posted_, is_bind, &Posted::work) ||
      std::ranges::any_of(executed_, is_bind) || (!stands_still_ && scheduler_.pick(2) == 0)) {
    return false;
  }
  if (execute_bind(posted) != Outcome::Executed) {
    fail_work(work.id, CompletionStatus::LocalError);
  } else if (work.signalled) {
    completions_.push_back(end_of_work(work.id, CompletionStatus::Success, /*bind=*/true));
  } else {
    ++silent_binds_;
  }
  return true;
}

MemoryQueue::Outcome MemoryQueue::receive(const WorkRequest& work) {
  switch (work.kind) {
    case WorkKind::Write:
    case WorkKind::WriteImmediate:
      return receive_write(work);
    case WorkKind::Send:
    case WorkKind::SendImmediate:
    case WorkKind::SendInvalidate:
      return receive_send(work);
    case WorkKind::BindWindow:
      break;  // never leaves its own side
  }
  RNBD_ASSERT(false);
}

MemoryQueue::Outcome MemoryQueue::receive_write(const WorkRequest& work) {
  const bool immediate = work.kind == WorkKind::WriteImmediate;
  if (immediate && receives_.empty()) return Outcome::MustWait;

  const std::span data(work.source.address, work.source.length);
  if (!data.empty()) {
    std::byte* const target = device_.remote_target(work.remote, work.source.length);
    if (target == nullptr) {
      break_off();
      return Outcome::Refused;
    }
    device_.write(this, target, data);
  }
  if (immediate) finish_receive(CompletionKind::WriteImmediate, work);
  return Outcome::Executed;
}

MemoryQueue::Outcome MemoryQueue::receive_send(const WorkRequest& work) {
  if (receives_.empty()) return Outcome::MustWait;

  const transport::ReceiveRequest receive = receives_.front();
  const std::uint32_t length = work.source.length;
  if (length > receive.length || !device_.allows_local(receive.key, receive.address, length)) {
    receives_.pop_front();
    complete({.completion = {.status = CompletionStatus::LocalError, .id = receive.id},
              .frees_receives = 1});
    break_off();
    return Outcome::Refused;
  }
  if (work.kind == WorkKind::SendInvalidate && !device_.invalidate(work.remote.key)) {
    break_off();
    return Outcome::Refused;
  }
  if (length > 0) std::memmove(receive.address, work.source.address, length);
  switch (work.kind) {
    case WorkKind::SendImmediate:
      finish_receive(CompletionKind::ReceiveImmediate, work);
      break;
    case WorkKind::SendInvalidate:
      finish_receive(CompletionKind::ReceiveInvalidate, work);
      break;
    case WorkKind::Send:
    case WorkKind::Write:
    case WorkKind::WriteImmediate:
    case WorkKind::BindWindow:
      finish_receive(CompletionKind::Receive, work);
      break;
  }
  return Outcome::Executed;
}

void MemoryQueue::finish_receive(CompletionKind kind, const WorkRequest& work) {
  device_.land(this);  // what was written before is there before this is told
  const std::uint64_t id = receives_.front().id;
  receives_.pop_front();
  const bool invalidate = kind == CompletionKind::ReceiveInvalidate;
  const bool immediate =
      kind == CompletionKind::ReceiveImmediate || kind == CompletionKind::WriteImmediate;
  complete({.completion = {.kind = kind,
                           .id = id,
                           .length = work.source.length,
                           .immediate = immediate ? work.immediate : 0,
                           .invalidated_key = invalidate ? work.remote.key : 0},
            .frees_receives = 1});
}

void MemoryQueue::acknowledge_one() {
  if (state_ != State::Ready || executed_.empty() || wire_.is_deaf()) return;
  acknowledge_front();
  if (!executed_.empty()) acknowledgement_.wake();
}

void MemoryQueue::acknowledge_front() {
  const WorkRequest work = executed_.front();
  executed_.pop_front();
  const bool bind = work.kind == WorkKind::BindWindow;
  if (work.signalled) {
    complete_work(work.id, CompletionStatus::Success, bind);
  } else {
    ++(bind ? silent_binds_ : silent_sends_);
  }
}

void MemoryQueue::fail_work(std::uint64_t id, CompletionStatus status) {
  complete_work(id, status);
  break_off();
}

void MemoryQueue::flush_one() {
  if (state_ != State::Broken) return;
  const bool work = !executed_.empty() || !posted_.empty();
  if (!work && receives_.empty()) return;
  if (work && (receives_.empty() || scheduler_.pick(2) == 0)) {
    std::uint64_t id = 0;
    if (!executed_.empty()) {  // the peer did it, but its answer is lost
      id = executed_.front().id;
      executed_.pop_front();
    } else {
      id = posted_.front().work.id;
      posted_.pop_front();
    }
    complete_work(id, CompletionStatus::Flushed);
  } else {
    const std::uint64_t id = receives_.front().id;
    receives_.pop_front();
    complete({.completion = {.status = CompletionStatus::Flushed, .id = id}, .frees_receives = 1});
  }
  flushing_.wake();
}

void MemoryQueue::complete_work(std::uint64_t id, CompletionStatus status, bool bind) {
  complete(end_of_work(id, status, bind));
}

MemoryQueue::Entry MemoryQueue::end_of_work(std::uint64_t id, CompletionStatus status, bool bind) {
  const std::uint32_t sends = bind ? 0 : std::exchange(silent_sends_, 0);
  return {.completion = {.kind = CompletionKind::Done, .status = status, .id = id},
          .frees_work = 1 + sends + std::exchange(silent_binds_, 0)};
}

void MemoryQueue::complete(const Entry& entry) {
  completions_.push_back(entry);
  if (!armed_) return;
  armed_ = false;
  ::eventfd_write(event_.get(), 1);
}

std::uint64_t MemoryQueue::digest(const transport::LocalMemory& source) const {
  if (source.length == 0 || !device_.allows_local(source.key, source.address, source.length)) {
    return 0;
  }
  return std::hash<std::string_view>{}(
      {reinterpret_cast<const char*>(source.address), source.length});
}

}  // namespace rnbd::sim
