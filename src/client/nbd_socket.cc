// SPDX-License-Identifier: Apache-2.0
#include "client/nbd_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <utility>

#include <climits>
#include <fmt/format.h>
#include <sys/socket.h>

#include "common/assert.h"

namespace rnbd::client {
namespace {

// Unix sockets charge what is in flight to the sender, so its buffer is the one that counts.
void enlarge_send_buffer(int fd, int bytes) {
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0) return;
  // Without CAP_NET_ADMIN we get what net.core.wmem_max allows: slower, not wrong.
  std::ignore = ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

}  // namespace

NbdRequest to_request(const NbdRequestHeader& header) {
  return {.command = static_cast<NbdCommand>(std::uint16_t{header.command}),
          .flags = header.flags,
          .cookie = header.cookie,
          .offset = header.offset,
          .length = header.length};
}

Result<NbdSocketPair> make_nbd_socket_pair(int buffer_bytes) {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return fail(errno, "cannot make a socket pair for the nbd driver");
  }
  NbdSocketPair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
  for (const int fd : fds) enlarge_send_buffer(fd, buffer_bytes);
  if (::fcntl(pair.ours.get(), F_SETFL, O_NONBLOCK) != 0) {
    return fail(errno, "cannot make a socket non-blocking");
  }
  return pair;
}

NbdSocket::NbdSocket(UniqueFd fd, Journal& journal, Room room, NbdSocketEvents& events)
    : fd_(std::move(fd)),
      journal_(journal),
      events_(events),
      headers_(room.replies),
      pieces_(std::size_t{room.replies} + room.payload_pieces) {
  RNBD_ASSERT(room.replies <= journal.shape().requests);
}

NbdSocket::Arrival NbdSocket::end(int code, std::string message) {
  ended_ = true;
  if (error_.code == 0) error_ = {code, std::move(message)};
  return Arrival::Ended;
}

NbdSocket::Arrival NbdSocket::next_request(NbdRequest& out) {
  if (journal_.ahead() < sizeof(NbdRequestHeader)) {
    if (const Arrival arrival = fill_window(); arrival != Arrival::Complete) return arrival;
  }
  const NbdRequestHeader header = journal_.next_header();
  if (header.magic != kNbdRequestMagic) {
    return end(EPROTO,
               fmt::format("the kernel's request has magic {:#x}", std::uint32_t{header.magic}));
  }
  out = to_request(header);
  const bool payload = out.command == NbdCommand::Write;
  if (payload && out.length > kNbdMaxPayload) {
    return end(EPROTO, fmt::format("the kernel's WRITE of {} bytes is too long", out.length));
  }
  // Writes mostly come in company. Asking for one header only behind a write leaves the payload of
  // the next one in the socket, to be received in place instead of copied.
  headers_ahead_ = payload ? 1 : kWindowHeaders;
  return Arrival::Complete;
}

NbdSocket::Arrival NbdSocket::fill_window() {
  if (ended_) return Arrival::Ended;
  if (drained_) return Arrival::Nothing;
  const std::size_t room = headers_ahead_ * sizeof(NbdRequestHeader) - journal_.ahead();
  const Arrival arrival = arrived(journal_.receive_ahead(fd_.get(), room), room);
  if (arrival == Arrival::Nothing || arrival == Arrival::Ended) return arrival;
  return journal_.ahead() >= sizeof(NbdRequestHeader) ? Arrival::Complete : Arrival::Partial;
}

NbdSocket::Arrival NbdSocket::receive_payload(std::span<std::byte> target, bool last,
                                              std::size_t& got) {
  got = journal_.take_ahead(target);
  if (got == target.size()) return Arrival::Complete;
  const auto nothing_more = [&got] { return got > 0 ? Arrival::Partial : Arrival::Nothing; };
  if (ended_) return Arrival::Ended;
  if (drained_) return nothing_more();

  const std::span<std::byte> rest = target.subspan(got);
  const std::size_t ahead = last ? sizeof(NbdRequestHeader) : 0;
  const auto count = journal_.receive_payload(fd_.get(), rest, ahead);
  if (arrived(count, rest.size() + ahead) == Arrival::Ended) return Arrival::Ended;
  got += std::min(count.value_or(0), rest.size());
  return got == target.size() ? Arrival::Complete : nothing_more();
}

/// What a call that took `count` of the `asked` bytes means.
NbdSocket::Arrival NbdSocket::arrived(std::optional<std::size_t> count, std::size_t asked) {
  // Reset: it closed without having read all of our replies.
  if (count == 0 || (!count && errno == ECONNRESET)) {
    return end(EPIPE, "the kernel closed its end of the socket");
  }
  if (!count && errno != EAGAIN && errno != EINTR) {
    return end(errno, "cannot receive from the kernel");
  }
  if (!count) return Arrival::Nothing;
  drained_ = *count < asked;
  return drained_ ? Arrival::Partial : Arrival::Complete;
}

void NbdSocket::queue_reply(std::uint32_t slot, const NbdCookie& cookie, std::uint32_t nbd_error) {
  RNBD_ASSERT(slot < headers_.size());
  headers_[slot] = {.magic = kNbdReplyMagic, .error = nbd_error, .cookie = cookie};
  journal_.queue_reply(static_cast<std::uint16_t>(slot), sizeof headers_[slot]);
  push_piece(&headers_[slot], sizeof headers_[slot]);
}

void NbdSocket::add_payload(std::span<std::byte> data) {
  journal_.extend_reply(data.size());
  push_piece(data.data(), data.size());
}

void NbdSocket::go_on(std::uint32_t slot, const NbdCookie& cookie, std::uint32_t nbd_error,
                      std::span<const std::span<std::byte>> data, std::size_t sent) {
  RNBD_ASSERT(slot < headers_.size() && piece_end_ == 0);
  headers_[slot] = {.magic = kNbdReplyMagic, .error = nbd_error, .cookie = cookie};
  push_piece(&headers_[slot], sizeof headers_[slot]);
  for (const auto piece : data) push_piece(piece.data(), piece.size());
  move_on(sent);
}

void NbdSocket::push_piece(void* data, std::size_t length) {
  if (piece_end_ == pieces_.size()) {
    std::move(pieces_.begin() + static_cast<std::ptrdiff_t>(piece_begin_), pieces_.end(),
              pieces_.begin());
    piece_end_ -= std::exchange(piece_begin_, 0);
  }
  RNBD_ASSERT(length > 0 && piece_end_ < pieces_.size());
  pieces_[piece_end_++] = {data, length};
}

NbdSocket::Sending NbdSocket::flush() {
  blocked_ = false;
  while (piece_begin_ < piece_end_) {
    if (sending_ended_) return end_sending(0);
    const auto next = std::span(pieces_).subspan(piece_begin_, piece_end_ - piece_begin_);
    const auto count =
        journal_.send(fd_.get(), next.first(std::min<std::size_t>(next.size(), UIO_MAXIOV)));
    if (count) {
      move_on(*count);
      tell_taken();
    } else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
      blocked_ = true;
      return errno == EAGAIN ? Sending::Blocked : Sending::Starved;
    } else if (errno != EINTR) {
      return end_sending(errno);
    }
  }
  return Sending::Done;
}

NbdSocket::Sending NbdSocket::end_sending(int code) {
  if (!std::exchange(sending_ended_, true)) {
    if (code != EPIPE && code != ECONNRESET) {
      error_ = {code, "cannot send replies to the kernel"};
    }
    // What the kernel sent before it closed, a Disconnect perhaps, can still be received.
    ::shutdown(fd_.get(), SHUT_RDWR);
  }
  drop_replies();
  return Sending::Ended;
}

void NbdSocket::move_on(std::size_t bytes) {
  while (bytes > 0) {
    iovec& piece = pieces_[piece_begin_];
    const std::size_t part = std::min(bytes, piece.iov_len);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + part;
    piece.iov_len -= part;
    bytes -= part;
    if (piece.iov_len == 0) ++piece_begin_;
  }
  if (piece_begin_ == piece_end_) piece_begin_ = piece_end_ = 0;
}

void NbdSocket::tell_taken() {
  while (const auto slot = journal_.next_answered()) events_.on_reply_taken(*slot);
}

void NbdSocket::drop_replies() {
  piece_begin_ = piece_end_ = 0;
  blocked_ = false;
  while (const auto slot = journal_.next_forgotten()) events_.on_reply_taken(*slot);
}

}  // namespace rnbd::client
