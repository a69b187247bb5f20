// SPDX-License-Identifier: Apache-2.0
// BlockQueue, second part: a request from its permits to its reply.
#include <algorithm>
#include <utility>

#include "client/block_queue.h"
#include "common/assert.h"
#include "common/rnbd_wire.h"

namespace rnbd::client {

using rtrs::PermitId;

void BlockQueue::submit_read(std::uint16_t slot, std::span<const PermitId> permits) {
  Request& request = requests_[slot];
  std::uint16_t* link = &request.first_piece;
  for (const PermitId permit : permits) {
    *link = permit;
    link = &pieces_[permit].next;
    const std::uint32_t length = next_length(request);
    journal_.hold(slot, {.permit = permit, .offset = request.submitted, .length = length});
    submit_piece(slot, permit, length);
  }
}

void BlockQueue::start_pieces(std::uint16_t slot, PermitId first) {
  const Request& request = requests_[slot];
  PermitId permit = first;
  for (;;) {
    const std::uint32_t rest = request.length - request.submitted;
    if (request.kind == IoKind::ZeroData) {
      std::ranges::fill(channel_.buffer(permit).first(std::min(rest, max_data_)), std::byte{0});
    }
    submit_piece(slot, permit, next_length(request));
    if (request.submitted == request.length || request.in_flight == kPiecesInFlight) return;
    // More permits are welcome, but nothing waits for them: each one that comes back from a piece
    // carries the next.
    if (!channel_.acquire({&permit, 1}, *this)) {
      channel_.cancel_wait(*this);
      return;
    }
  }
}

void BlockQueue::submit_piece(std::uint16_t slot, PermitId permit, std::uint32_t length) {
  Request& request = requests_[slot];
  const std::uint32_t offset = request.submitted;
  request.submitted += length;
  send_piece(slot, permit, offset, length);
}

void BlockQueue::send_piece(std::uint16_t slot, PermitId permit, std::uint32_t offset,
                            std::uint32_t length) {
  RNBD_ASSERT(permit < pieces_.size());
  Request& request = requests_[slot];
  Piece& piece = pieces_[permit];
  piece.request = slot;
  piece.in_flight = true;
  piece.length = length;
  wire::Io message;
  message.header = wire::header(wire::MessageType::Io);
  message.device_id = device_id_;
  message.sector = (request.offset + offset) / wire::kSectorSize;
  message.rw = request.operation;
  message.size = length;
  ++request.in_flight;
  channel_.submit(permit, request.direction, request.carries_data ? length : 0,
                  std::as_bytes(std::span(&message, 1)), *this);
}

void BlockQueue::on_request_done(PermitId permit, int error) {
  Piece& piece = pieces_[permit];
  RNBD_ASSERT(piece.in_flight);
  const std::uint16_t slot = piece.request;
  Request& request = requests_[slot];
  piece.in_flight = false;
  --request.in_flight;
  const rtrs::RequestTrip trip = channel_.trip(permit);
  request.sent = std::min(request.sent, trip.sent);
  request.path = trip.path;
  if (error != 0) fail(slot, error);
  switch (request.kind) {
    case IoKind::Read:  // its permits stay: the reply is sent from their buffers
      break;
    case IoKind::Write:
    case IoKind::Flush:
      release(permit);
      break;
    case IoKind::Discard:
    case IoKind::ZeroRange:
    case IoKind::ZeroData:
      if (request.submitted < request.length && request.error == 0) {
        submit_piece(slot, permit, next_length(request));
        return;
      }
      release(permit);
      break;
  }
  const bool arriving = request.kind == IoKind::Write && request.submitted < request.length;
  if (request.in_flight == 0 && !arriving) finish(slot);
}

void BlockQueue::on_request_renewed(PermitId, std::span<std::byte> user_message) {
  auto message = load<wire::Io>(user_message);
  message.device_id = device_id_;
  store(user_message, message);
}

void BlockQueue::on_permits_available() {
  waiting_ = false;
  // At once, not in poll(): until this returns nobody else is let in, and a READ that needs many
  // permits would lose them to smaller requests for ever.
  take_permits();
  worker_.wake(*this);
}

void BlockQueue::finish(std::uint16_t slot) {
  Request& request = requests_[slot];
  request.state = State::Replying;
  count(request);
  if (request.error != 0) release_read(request);
  socket_.queue_reply(slot, request.cookie, to_nbd_error(request.error));
  for (std::uint16_t permit = request.first_piece; permit != kNone; permit = pieces_[permit].next) {
    socket_.add_payload(channel_.buffer(permit).first(pieces_[permit].length));
  }
  if (flush_wanted_) return;
  flush_wanted_ = true;
  worker_.want_flush(*this);
}

void BlockQueue::count(const Request& request) {
  const std::uint64_t bytes = request.error == 0 ? request.length : 0;
  if (request.error != 0) ++counters_.errors;
  LatencyHistogram IoLatencies::* kind = &IoLatencies::other;
  switch (request.kind) {
    case IoKind::Read:
      ++counters_.reads;
      counters_.read_bytes += bytes;
      kind = &IoLatencies::read;
      break;
    case IoKind::Write:
      ++counters_.writes;
      counters_.written_bytes += bytes;
      kind = &IoLatencies::write;
      break;
    case IoKind::Flush:
      ++counters_.flushes;
      break;
    case IoKind::Discard:
      ++counters_.discards;
      break;
    case IoKind::ZeroRange:
    case IoKind::ZeroData:
      ++counters_.zeroes;
      break;
  }
  // Nobody knows when what a predecessor has left began.
  if (request.begun != TimePoint{}) time(request, kind);
}

void BlockQueue::time(const Request& request, LatencyHistogram IoLatencies::* kind) {
  const TimePoint now = worker_.now();
  const Duration taken = now - request.begun;
  (counters_.latencies.*kind).add(taken);
  if (request.sent != kNever) {
    (counters_.queue_latencies.*kind).add(request.sent - request.begun);
    (counters_.wire_latencies.*kind).add(now - request.sent);
  }
  if (taken >= slow_io_) tell_slow(request, taken);
}

void BlockQueue::tell_slow(const Request& request, Duration taken) {
  SlowRequest slow{.kind = request.kind,
                   .offset = request.offset,
                   .length = request.length,
                   .error = request.error,
                   .taken = taken,
                   .queued = taken};
  if (request.sent != kNever) {
    slow.queued = request.sent - request.begun;
    slow.path = request.path;
  }
  events_.on_slow_request(slow);
}

BlockQueueCounters& BlockQueueCounters::operator+=(const BlockQueueCounters& other) {
  reads += other.reads;
  writes += other.writes;
  flushes += other.flushes;
  discards += other.discards;
  zeroes += other.zeroes;
  read_bytes += other.read_bytes;
  written_bytes += other.written_bytes;
  errors += other.errors;
  permit_waits += other.permit_waits;
  latencies += other.latencies;
  queue_latencies += other.queue_latencies;
  wire_latencies += other.wire_latencies;
  in_flight += other.in_flight;
  waiting |= other.waiting;
  return *this;
}

BlockQueueCounters BlockQueue::counters() const {
  BlockQueueCounters now = counters_;
  now.in_flight = in_flight();
  now.waiting = waiting_;
  return now;
}

void BlockQueue::on_reply_taken(std::uint32_t slot) {
  release_read(requests_[slot]);
  free_slot(static_cast<std::uint16_t>(slot));
}

void BlockQueue::release(PermitId permit) {
  pieces_[permit] = {};
  journal_.drop(permit);
  channel_.release({&permit, 1});
}

/// Gives back the permits of a READ that are not under way; the others are the channel's.
void BlockQueue::release_read(Request& request) {
  std::size_t count = 0;
  std::uint16_t permit = request.first_piece;
  request.first_piece = kNone;
  while (permit != kNone) {
    if (!pieces_[permit].in_flight) permits_[count++] = permit;
    const std::uint16_t next = pieces_[permit].next;
    pieces_[permit] = {};
    journal_.drop(permit);
    permit = next;
  }
  if (count > 0) channel_.release(std::span(permits_).first(count));
}

void BlockQueue::free_slot(std::uint16_t slot) {
  requests_[slot] = {};
  free_slots_.push_back(slot);
  count_in_flight();
  if (std::exchange(out_of_slots_, false)) worker_.wake(*this);
  if (draining_) check_drained();
}

void BlockQueue::count_in_flight() {
  in_flight_.store(static_cast<std::uint32_t>(requests_.size() - free_slots_.size()),
                   std::memory_order_relaxed);
}

/// Leaves what is under way to the channel, and gives back the permits of what is not.
void BlockQueue::give_up() {
  if (std::exchange(waiting_, false)) channel_.cancel_wait(*this);
  left_over_ = recovered_.open.size();
  if (intake_ == Intake::Payload) release(head_permit_);
  for (Request& request : requests_) {
    if (request.state != State::Open) continue;
    release_read(request);
    request.in_flight = 0;
  }
  for (PermitId permit = 0; permit < pieces_.size(); ++permit) {
    if (!pieces_[permit].in_flight) continue;
    pieces_[permit] = {};
    journal_.drop(permit);
  }
  channel_.abandon(*this);
}

void BlockQueue::end() {
  if (!std::exchange(closed_, true)) give_up();
  intake_ = Intake::Ended;
  for (std::uint16_t slot = 0; slot < requests_.size(); ++slot) {
    if (requests_[slot].state == State::Open) free_slot(slot);
  }
  socket_.drop_replies();
  events_.on_socket_ended(*this, socket_.error());
  check_drained();
}

}  // namespace rnbd::client
