// SPDX-License-Identifier: Apache-2.0
// Journal, second part: what a successor makes of it. Control thread, before the queue starts.
// Each step may be interrupted and done again.
#include <algorithm>
#include <cerrno>

#include "client/journal.h"

namespace rnbd::client {
namespace {

std::unexpected<Error> damaged(const char* what) {
  return fail(EPROTO, std::string("the journal makes no sense: ") + what);
}

}  // namespace

Result<Journal::Recovered> Journal::recover() {
  settle_streams();
  if (Status sound = check(); !sound) return fail(sound.error());
  for (RequestRecord& request : requests_) {
    if (request.position >= parsed()) request.open.set(0);  // its header will be read again
  }
  Recovered found;
  found.half_sent = settle_replies();
  settle_pieces(found.half_sent);
  for (std::uint16_t slot = 0; slot < requests_.size(); ++slot) {
    const bool other = !found.half_sent || found.half_sent->slot != slot;
    if (is_open(slot) && other) found.open.push_back(slot);
  }
  std::ranges::sort(found.open, {}, [this](auto slot) { return requests_[slot].position; });
  if (Status sound = check_requests(); !sound) return fail(sound.error());
  return found;
}

/// What the kernel did in a call whose result we did not live to see.
void Journal::settle_streams() {
  const Call& in = head_->receive;
  if (in.at.get() == received() && in.message.msg_len != kNoOutcome) {
    apply_received(in.message.msg_len);
  }
  const Call& out = head_->send;
  if (out.at.get() == head_->sent.get() && out.message.msg_len != kNoOutcome) {
    head_->sent.set(out.at.get() + out.message.msg_len);
  }
}

Status Journal::check() const {
  if (parsed() > received() || ahead() > kWindow) return damaged("the window");
  const auto strange = [&](const PieceRecord& piece) {
    return piece.owner.get() > shape_.requests || piece.length > kNbdMaxPayload;
  };
  if (std::ranges::any_of(pieces_, strange)) return damaged("a piece");
  return check_replies();
}

/// Once only unanswered requests are open.
Status Journal::check_requests() const {
  for (std::uint16_t slot = 0; slot < requests_.size(); ++slot) {
    if (!is_open(slot)) continue;
    const NbdRequestHeader& header = requests_[slot].header;
    const bool write = header.command == static_cast<std::uint16_t>(NbdCommand::Write);
    if (header.magic != kNbdRequestMagic || (write && header.length > kNbdMaxPayload)) {
      return damaged("a request");
    }
    for (const JournalPiece& piece : pieces(slot)) {
      if (piece.offset > header.length || piece.length > header.length - piece.offset) {
        return damaged("a piece of a request");
      }
    }
  }
  return {};
}

Status Journal::check_replies() const {
  const std::uint64_t first = head_->first_reply.get();
  const std::uint64_t end = head_->end_reply.get();
  if (end < first || end - first > replies_.size()) return damaged("the replies");
  std::uint64_t position = 0;
  for (std::uint64_t number = first; number < end; ++number) {
    const ReplyRecord& one = replies_[number % replies_.size()];
    const bool follows = number == first ? one.begin <= head_->sent.get() : one.begin == position;
    if (!follows || one.slot >= shape_.requests || one.end <= one.begin) return damaged("a reply");
    position = one.end;
  }
  if (first < end && head_->sent.get() > position) return damaged("the sent replies");
  return {};
}

/// What has gone out as a whole is answered; what has not begun to go out will be made anew.
std::optional<Journal::HalfSent> Journal::settle_replies() {
  while (next_answered()) {
  }
  const std::uint64_t first = head_->first_reply.get();
  if (first == head_->end_reply.get()) return {};
  const ReplyRecord& one = reply(first);
  const bool begun = one.begin < head_->sent.get();
  head_->end_reply.set(begun ? first + 1 : first);
  if (!begun) return {};
  return HalfSent{static_cast<std::uint16_t>(one.slot), head_->sent.get() - one.begin};
}

void Journal::settle_pieces(const std::optional<HalfSent>& half_sent) {
  for (PieceRecord& piece : pieces_) {
    if (piece.owner.get() != 0 && !is_needed(piece, half_sent)) piece.owner.set(0);
  }
}

bool Journal::is_needed(const PieceRecord& piece, const std::optional<HalfSent>& half_sent) const {
  const auto slot = static_cast<std::uint16_t>(piece.owner.get() - 1);
  if (!is_open(slot) || error(slot) != 0) return false;
  const auto command = static_cast<NbdCommand>(std::uint16_t{requests_[slot].header.command});
  if (half_sent && half_sent->slot == slot) return command == NbdCommand::Read;
  return command == NbdCommand::Write;
}

std::vector<JournalPiece> Journal::pieces(std::uint16_t slot) const {
  std::vector<JournalPiece> found;
  for (std::size_t permit = 0; permit < pieces_.size(); ++permit) {
    const PieceRecord& piece = pieces_[permit];
    if (piece.owner.get() != slot + 1U) continue;
    found.push_back({static_cast<std::uint16_t>(permit), piece.offset, piece.length});
  }
  std::ranges::sort(found, {}, &JournalPiece::offset);
  return found;
}

std::vector<std::uint16_t> Journal::permits() const {
  std::vector<std::uint16_t> found;
  for (std::size_t permit = 0; permit < pieces_.size(); ++permit) {
    if (pieces_[permit].owner.get() != 0) found.push_back(static_cast<std::uint16_t>(permit));
  }
  return found;
}

}  // namespace rnbd::client
