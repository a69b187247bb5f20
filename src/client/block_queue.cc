// SPDX-License-Identifier: Apache-2.0
// The queue's life, and how it takes requests from its socket; the rest is in block_request.cc.
#include "client/block_queue.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/log.h"
#include "common/rnbd_wire.h"

namespace rnbd::client {

Result<std::unique_ptr<BlockQueue>> BlockQueue::create(
    WorkerContext& worker, rtrs::RequestChannel& channel, UniqueFd socket,
    std::span<std::byte> journal, const Config& config, BlockQueueEvents& events) {
  const std::uint32_t block_size = config.shape.block_size;
  if (block_size == 0 || block_size % wire::kSectorSize != 0) {
    return rnbd::fail(EINVAL, fmt::format("a device cannot have blocks of {} bytes", block_size));
  }
  if (channel.max_io_size() < block_size) {
    return rnbd::fail(EINVAL, fmt::format("the server takes {} bytes in a request, less than the "
                                          "device's block of {}",
                                          channel.max_io_size(), block_size));
  }
  std::unique_ptr<BlockQueue> queue(
      new BlockQueue(worker, channel, std::move(socket), journal, config, events));
  auto recovered = queue->journal_.recover();
  if (!recovered) return rnbd::fail(recovered.error());
  queue->recovered_ = std::move(*recovered);
  return queue;
}

BlockQueue::BlockQueue(WorkerContext& worker, rtrs::RequestChannel& channel, UniqueFd socket,
                       std::span<std::byte> journal, const Config& config, BlockQueueEvents& events)
    : worker_(worker),
      channel_(channel),
      events_(events),
      journal_(journal, config.journal_shape()),
      socket_(std::move(socket), journal_,
              {.replies = config.max_requests, .payload_pieces = config.permit_ids}, *this),
      shape_(config.shape),
      device_id_(config.device_id),
      max_data_(channel.max_io_size() - channel.max_io_size() % config.shape.block_size),
      slow_io_(config.slow_io),
      requests_(config.max_requests),
      pieces_(config.permit_ids),
      permits_(channel.max_permits()) {
  RNBD_ASSERT(config.max_requests > 0 && config.max_requests < kNone);
  RNBD_ASSERT(config.permit_ids <= kNone && !permits_.empty());
  free_slots_.reserve(config.max_requests);
  for (std::uint32_t slot = config.max_requests; slot-- > 0;) {
    free_slots_.push_back(static_cast<std::uint16_t>(slot));
  }
}

BlockQueue::~BlockQueue() {
  if (started_ && !closed_) give_up();
  socket_.drop_replies();
  if (started_) worker_.remove(*this);
}

void BlockQueue::start() {
  RNBD_ASSERT(!std::exchange(started_, true));
  worker_.add(*this);
  resume();
}

void BlockQueue::set_shape(const DeviceShape& shape) {
  const std::uint32_t block_size = shape_.block_size;
  shape_ = shape;
  shape_.block_size = block_size;
}

void BlockQueue::close() {
  if (std::exchange(closed_, true)) return;
  const bool half_taken = intake_ == Intake::Permits || intake_ == Intake::Payload;
  const std::uint32_t received = intake_ == Intake::Payload ? head_received_ : 0;
  for (std::uint16_t slot = 0; slot < requests_.size(); ++slot) {
    // Before its data is let go: a successor would take what is not held for done.
    if (requests_[slot].state == State::Open) fail(slot, EIO);
  }
  give_up();
  if (half_taken) intake_ = Intake::Header;
  for (std::uint16_t slot = 0; slot < requests_.size(); ++slot) {
    Request& request = requests_[slot];
    if (request.state != State::Open) continue;
    if (slot == head_ && half_taken && request.kind == IoKind::Write) {
      // The kernel is still sending it and would not look at an answer before it has finished.
      refuse_left_ = request.length - request.submitted - received;
      intake_ = Intake::Refuse;
    } else if (slot != head_ || intake_ != Intake::Refuse) {
      finish(slot);
    }
  }
  if (started_) worker_.wake(*this);
}

std::size_t BlockQueue::poll() {
  if (socket_.blocked()) flush();
  socket_.begin_round();
  std::size_t handled = 0;
  Step done = Step::Again;
  while (done == Step::Again && handled < kStepsPerPoll) {
    done = step();
    if (done != Step::Idle) ++handled;
  }
  drained_ = done != Step::Again;
  return handled;
}

BlockQueue::Step BlockQueue::step() {
  switch (intake_) {
    case Intake::Header:
      return take_header();
    case Intake::Permits:
      return take_permits();
    case Intake::Payload:
      return take_payload();
    case Intake::Refuse:
      return refuse_payload();
    case Intake::Ended:
      break;
  }
  return Step::Idle;
}

BlockQueue::Step BlockQueue::take_header() {
  if (left_over_ < recovered_.open.size()) return take_left_over();
  if (draining_) {
    check_drained();
    return Step::Idle;
  }
  if (free_slots_.empty()) {
    out_of_slots_ = true;
    return Step::Idle;
  }
  NbdRequest request;
  switch (socket_.next_request(request)) {
    case NbdSocket::Arrival::Complete:
      return admit(request);
    case NbdSocket::Arrival::Partial:
      return Step::Pause;
    case NbdSocket::Arrival::Nothing:
      break;
    case NbdSocket::Arrival::Ended:
      end();
      break;
  }
  return Step::Idle;
}

BlockQueue::Step BlockQueue::admit(const NbdRequest& request) {
  if (request.command == NbdCommand::Disconnect) {
    socket_.skip_request();
    events_.on_disconnect_request(*this);
    return Step::Again;
  }
  head_ = free_slots_.back();
  free_slots_.pop_back();
  count_in_flight();
  socket_.open_request(head_);
  Request& head = requests_[head_] = begin_request(request);
  if (closed_) fail(head_, EIO);
  journal_.set_error(head_, head.error);
  if (head.error == 0) {
    intake_ = Intake::Permits;
  } else if (request.command == NbdCommand::Write && request.length > 0) {
    refuse_left_ = request.length;
    intake_ = Intake::Refuse;
  } else {
    finish(head_);
  }
  return Step::Again;
}

BlockQueue::Request BlockQueue::begin_request(const NbdRequest& request) const {
  const IoPlan plan = plan_io(request, shape_);
  const bool ranged = plan.kind != IoKind::Flush;
  Request begun{.state = State::Open,
                .kind = plan.kind,
                .direction = plan.direction,
                .carries_data = plan.carries_data,
                .error = plan.error,
                .operation = plan.operation,
                .cookie = request.cookie,
                .offset = ranged ? request.offset : 0,
                .length = ranged ? request.length : 0,
                .begun = worker_.now()};
  if (begun.error == 0 && permits_for(begun) > permits_.size()) {
    log::error("a read of {} bytes needs more than the {} chunks there are: EIO", begun.length,
               permits_.size());
    begun.error = EIO;
  }
  return begun;
}

/// The first error of a request is the one that counts.
void BlockQueue::fail(std::uint16_t slot, int error) {
  Request& request = requests_[slot];
  if (request.error != 0) return;
  request.error = error;
  journal_.set_error(slot, error);
}

std::uint32_t BlockQueue::permits_for(const Request& request) const {
  if (request.kind != IoKind::Read) return 1;
  return (request.length + max_data_ - 1) / max_data_;
}

BlockQueue::Step BlockQueue::take_permits() {
  if (waiting_) return Step::Idle;
  Request& head = requests_[head_];
  const auto permits = std::span(permits_).first(permits_for(head));
  if (!channel_.acquire(permits, *this)) {
    waiting_ = true;
    ++counters_.permit_waits;
    return Step::Idle;
  }
  if (head.kind == IoKind::Write) {
    head_permit_ = permits.front();
    head_received_ = 0;
    journal_.hold(head_,
                  {.permit = head_permit_, .offset = head.submitted, .length = next_length(head)});
    intake_ = Intake::Payload;
    return Step::Again;
  }
  intake_ = Intake::Header;
  if (head.kind == IoKind::Read) {
    submit_read(head_, permits);
  } else {
    start_pieces(head_, permits.front());
  }
  return Step::Again;
}

BlockQueue::Step BlockQueue::take_payload() {
  const Request& head = requests_[head_];
  const std::uint32_t rest = head.length - head.submitted;
  const std::uint32_t length = next_length(head);
  const auto target =
      channel_.buffer(head_permit_).subspan(head_received_, length - head_received_);
  std::size_t got = 0;
  const auto arrival = socket_.receive_payload(target, length == rest, got);
  head_received_ += static_cast<std::uint32_t>(got);
  switch (arrival) {
    case NbdSocket::Arrival::Complete:
      intake_ = length == rest ? Intake::Header : Intake::Permits;
      submit_piece(head_, head_permit_, length);
      return Step::Again;
    case NbdSocket::Arrival::Partial:
      return Step::Pause;
    case NbdSocket::Arrival::Nothing:
      break;
    case NbdSocket::Arrival::Ended:
      end();
      break;
  }
  return Step::Idle;
}

/// Of the next piece of a request.
std::uint32_t BlockQueue::next_length(const Request& request) const {
  return piece_length(request.kind, request.offset + request.submitted,
                      request.length - request.submitted, shape_, max_data_);
}

BlockQueue::Step BlockQueue::refuse_payload() {
  const std::size_t length = std::min<std::size_t>(refuse_left_, bin_.size());
  std::size_t got = 0;
  const auto arrival =
      socket_.receive_payload(std::span(bin_).first(length), length == refuse_left_, got);
  refuse_left_ -= static_cast<std::uint32_t>(got);
  switch (arrival) {
    case NbdSocket::Arrival::Complete:
      if (refuse_left_ == 0) {
        intake_ = Intake::Header;
        finish(head_);
      }
      return Step::Again;
    case NbdSocket::Arrival::Partial:
      return Step::Pause;
    case NbdSocket::Arrival::Nothing:
      break;
    case NbdSocket::Arrival::Ended:
      end();
      break;
  }
  return Step::Idle;
}

void BlockQueue::flush() {
  flush_wanted_ = false;
  switch (socket_.flush()) {
    case NbdSocket::Sending::Done:
      break;
    case NbdSocket::Sending::Blocked:
      worker_.want_writable(*this);
      break;
    case NbdSocket::Sending::Starved:
    case NbdSocket::Sending::Ended:  // poll() finds out why
      worker_.wake(*this);
      break;
  }
}

}  // namespace rnbd::client
