// SPDX-License-Identifier: Apache-2.0
// BlockQueue, third part: going on where another process was killed, and leaving it to the next.
//
// In this order: the reply that is half sent goes on; WRITEs that are here are sent again from the
// buffers they are in; a WRITE whose payload is still arriving is received to its end; the others
// are done anew, oldest first, as if their headers came just now. Only then new headers are taken.
// Nobody waits for permits while he holds one that is unsent, as ever.
#include <algorithm>
#include <utility>

#include "client/block_queue.h"
#include "common/assert.h"
#include "common/log.h"

namespace rnbd::client {

void BlockQueue::resume() {
  const auto is_used = [this](std::uint16_t slot) { return journal_.is_open(slot); };
  std::erase_if(free_slots_, is_used);
  count_in_flight();
  for (std::uint16_t slot = 0; slot < requests_.size(); ++slot) {
    if (!is_used(slot)) continue;
    requests_[slot] = begin_request(to_request(journal_.header(slot)));
    requests_[slot].begun = {};
    const bool told = recovered_.half_sent && recovered_.half_sent->slot == slot;
    if (const int error = journal_.error(slot); told || error != 0) requests_[slot].error = error;
    journal_.set_error(slot, requests_[slot].error);
  }
  if (const auto& half = recovered_.half_sent) resume_reply(half->slot, half->sent);
  for (const std::uint16_t slot : recovered_.open) {
    if (std::uint16_t{journal_.header(slot).command} ==
        static_cast<std::uint16_t>(NbdCommand::Write)) {
      resume_write(slot);
    } else if (requests_[slot].error != 0) {
      finish(slot);
    }
  }
  if (recovered_.half_sent || !recovered_.open.empty()) {
    log::info("{} requests go on where they were left", recovered_.open.size());
  }
}

void BlockQueue::resume_reply(std::uint16_t slot, std::size_t sent) {
  Request& request = requests_[slot];
  request.state = State::Replying;
  std::vector<std::span<std::byte>> data;
  std::uint16_t* link = &request.first_piece;
  for (const JournalPiece& piece : journal_.pieces(slot)) {
    *link = piece.permit;
    link = &pieces_[piece.permit].next;
    pieces_[piece.permit].length = piece.length;
    data.push_back(channel_.buffer(piece.permit).first(piece.length));
  }
  socket_.go_on(slot, request.cookie, to_nbd_error(request.error), data, sent);
  flush_wanted_ = true;
  worker_.want_flush(*this);
}

/// What no buffer holds the server has.
void BlockQueue::resume_write(std::uint16_t slot) {
  Request& request = requests_[slot];
  const std::uint32_t length = journal_.header(slot).length;
  const std::uint32_t received = journal_.payload_received(slot);
  request.submitted = received;
  std::optional<JournalPiece> arriving;
  for (const JournalPiece& piece : journal_.pieces(slot)) {
    if (request.error != 0) {
      release(piece.permit);
    } else if (piece.offset + piece.length <= received) {
      send_piece(slot, piece.permit, piece.offset, piece.length);
    } else {
      arriving = piece;
    }
  }
  if (received == length) {
    if (request.in_flight == 0) finish(slot);
    return;
  }
  head_ = slot;
  if (request.error != 0) {
    refuse_left_ = length - received;
    intake_ = Intake::Refuse;
  } else if (arriving) {
    request.submitted = arriving->offset;
    head_permit_ = arriving->permit;
    head_received_ = received - arriving->offset;
    intake_ = Intake::Payload;
  } else {
    intake_ = Intake::Permits;
  }
}

BlockQueue::Step BlockQueue::take_left_over() {
  const std::uint16_t slot = recovered_.open[left_over_++];
  const Request& request = requests_[slot];
  const bool under_way =
      request.state != State::Open || request.in_flight > 0 || request.kind == IoKind::Write;
  if (under_way) return Step::Again;
  head_ = slot;
  intake_ = Intake::Permits;
  return Step::Again;
}

void BlockQueue::drain(Executor::Task done) {
  RNBD_ASSERT(!draining_);
  draining_ = true;
  on_drained_ = std::move(done);
  check_drained();
}

void BlockQueue::check_drained() {
  const bool between = intake_ == Intake::Header || intake_ == Intake::Ended;
  if (!on_drained_ || !between || free_slots_.size() < requests_.size()) return;
  std::exchange(on_drained_, nullptr)();
}

}  // namespace rnbd::client
