// SPDX-License-Identifier: Apache-2.0
#include "client/journal.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/assert.h"

namespace rnbd::client {
namespace {

constexpr std::size_t in_cache_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <typename T>
std::span<T> carve(std::span<std::byte>& memory, std::size_t count) {
  const std::size_t length = in_cache_lines(count * sizeof(T));
  RNBD_ASSERT(length <= memory.size());
  // The records are integers in memory that was mapped: there is nothing to construct, and what a
  // predecessor left must stay.
  auto* const first = reinterpret_cast<T*>(memory.data());  // NOLINT(*-reinterpret-cast)
  memory = memory.subspan(length);
  return {first, count};
}

}  // namespace

std::size_t Journal::bytes(const JournalShape& shape) {
  return in_cache_lines(sizeof(Head)) + in_cache_lines(shape.requests * sizeof(RequestRecord)) +
         in_cache_lines(shape.permits * sizeof(PieceRecord)) +
         in_cache_lines(shape.requests * sizeof(ReplyRecord));
}

Journal::Journal(std::span<std::byte> memory, const JournalShape& shape)
    : shape_(shape),
      head_(carve<Head>(memory, 1).data()),
      requests_(carve<RequestRecord>(memory, shape.requests)),
      pieces_(carve<PieceRecord>(memory, shape.permits)),
      replies_(carve<ReplyRecord>(memory, shape.requests)) {}

// --- the stream of requests ---

void Journal::prepare(Call& call, std::uint64_t at, std::size_t direct, std::span<iovec> pieces) {
  call.message.msg_len = kNoOutcome;
  call.message.msg_hdr = {};
  call.message.msg_hdr.msg_iov = pieces.data();
  call.message.msg_hdr.msg_iovlen = pieces.size();
  call.direct.set(static_cast<std::uint32_t>(direct));
  call.at.set(at);
}

std::optional<std::size_t> Journal::receive(int fd, std::size_t direct, std::span<iovec> pieces) {
  prepare(head_->receive, received(), direct, pieces);
  if (::recvmmsg(fd, &head_->receive.message, 1, MSG_DONTWAIT, nullptr) != 1) return {};
  const std::size_t count = head_->receive.message.msg_len;
  apply_received(count);
  return count;
}

/// May be done twice: nothing changes before `received` does, and then the call is void.
void Journal::apply_received(std::size_t count) {
  const std::uint64_t at = head_->receive.at.get();
  const std::size_t direct = head_->receive.direct.get();
  if (direct > 0) head_->parsed.set(at + std::min(count, direct));
  head_->received.set(at + count);
}

std::array<iovec, 2> Journal::window_room(std::uint64_t from, std::size_t room) const {
  const std::size_t begin = from % kWindow;
  const std::size_t first = std::min<std::size_t>(room, kWindow - begin);
  return {{{head_->window.data() + begin, first}, {head_->window.data(), room - first}}};
}

std::optional<std::size_t> Journal::receive_ahead(int fd, std::size_t room) {
  RNBD_ASSERT(ahead() + room <= kWindow);
  auto pieces = window_room(received(), room);
  return receive(fd, 0, std::span(pieces).first(pieces[1].iov_len > 0 ? 2 : 1));
}

std::optional<std::size_t> Journal::receive_payload(int fd, std::span<std::byte> target,
                                                    std::size_t ahead_room) {
  RNBD_ASSERT(ahead() == 0 && !target.empty());
  const auto window = window_room(received() + target.size(), ahead_room);
  std::array<iovec, 3> pieces{{{target.data(), target.size()}, window[0], window[1]}};
  const std::size_t count = ahead_room == 0 ? 1 : (window[1].iov_len == 0 ? 2 : 3);
  return receive(fd, target.size(), std::span(pieces).first(count));
}

NbdRequestHeader Journal::next_header() const {
  std::array<std::byte, sizeof(NbdRequestHeader)> bytes{};
  copy_ahead(bytes);
  return load<NbdRequestHeader>(bytes);
}

void Journal::open(std::uint16_t slot) {
  RequestRecord& request = requests_[slot];
  request.position = parsed();
  request.header = next_header();
  request.error.set(0);
  request.open.set(1);
  skip_header();
}

void Journal::copy_ahead(std::span<std::byte> target) const {
  const auto from = window_room(parsed(), target.size());
  std::memcpy(target.data(), from[0].iov_base, from[0].iov_len);
  std::memcpy(target.data() + from[0].iov_len, from[1].iov_base, from[1].iov_len);
}

std::size_t Journal::take_ahead(std::span<std::byte> target) {
  const std::size_t count = std::min(ahead(), target.size());
  if (count == 0) return 0;
  copy_ahead(target.first(count));
  head_->parsed.set(parsed() + count);
  return count;
}

// --- requests and their data ---

std::uint32_t Journal::payload_received(std::uint16_t slot) const {
  const RequestRecord& request = requests_[slot];
  const std::uint64_t begin = request.position + sizeof(NbdRequestHeader);
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(parsed() - begin, request.header.length));
}

void Journal::hold(std::uint16_t slot, const JournalPiece& piece) {
  PieceRecord& record = pieces_[piece.permit];
  record.offset = piece.offset;
  record.length = piece.length;
  record.owner.set(slot + 1U);
}

// --- the stream of replies ---

void Journal::queue_reply(std::uint16_t slot, std::size_t length) {
  const std::uint64_t first = head_->first_reply.get();
  const std::uint64_t end = head_->end_reply.get();
  RNBD_ASSERT(end - first < replies_.size());
  const std::uint64_t begin = end == first ? head_->sent.get() : reply(end - 1).end;
  reply(end) = {.begin = begin, .end = begin + length, .slot = slot};
  head_->end_reply.set(end + 1);
}

void Journal::extend_reply(std::size_t length) { reply(head_->end_reply.get() - 1).end += length; }

std::optional<std::size_t> Journal::send(int fd, std::span<iovec> pieces) {
  const std::uint64_t at = head_->sent.get();
  prepare(head_->send, at, 0, pieces);
  if (::sendmmsg(fd, &head_->send.message, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) return {};
  const std::size_t count = head_->send.message.msg_len;
  head_->sent.set(at + count);
  return count;
}

std::optional<std::uint16_t> Journal::next_answered() {
  const std::uint64_t first = head_->first_reply.get();
  if (first == head_->end_reply.get() || reply(first).end > head_->sent.get()) return {};
  const auto slot = static_cast<std::uint16_t>(reply(first).slot);
  free_answered(first);
  return slot;
}

std::optional<std::uint16_t> Journal::next_forgotten() {
  const std::uint64_t first = head_->first_reply.get();
  if (first == head_->end_reply.get()) return {};
  const auto slot = static_cast<std::uint16_t>(reply(first).slot);
  free_answered(first);
  return slot;
}

/// The slot is free before its reply is forgotten: in between it is merely freed again.
void Journal::free_answered(std::uint64_t number) {
  requests_[reply(number).slot].open.set(0);
  head_->first_reply.set(number + 1);
}

}  // namespace rnbd::client
