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

NbdSocket::NbdSocket(UniqueFd fd, Room room, NbdSocketEvents& events)
    : fd_(std::move(fd)),
      events_(events),
      headers_(room.replies),
      pieces_(std::size_t{room.replies} + room.payload_pieces),
      queue_(room.replies) {}

NbdSocket::Arrival NbdSocket::end(int code, std::string message) {
  ended_ = true;
  if (error_.code == 0) error_ = {code, std::move(message)};
  return Arrival::Ended;
}

NbdSocket::Arrival NbdSocket::next_request(NbdRequest& out) {
  if (buffered() < sizeof(NbdRequestHeader)) {
    if (const Arrival arrival = fill_window(); arrival != Arrival::Complete) return arrival;
  }
  const auto header = load<NbdRequestHeader>(window_, window_begin_);
  if (header.magic != kNbdRequestMagic) {
    return end(EPROTO,
               fmt::format("the kernel's request has magic {:#x}", std::uint32_t{header.magic}));
  }
  out = {.command = static_cast<NbdCommand>(std::uint16_t{header.command}),
         .flags = header.flags,
         .cookie = header.cookie,
         .offset = header.offset,
         .length = header.length};
  const bool payload = out.command == NbdCommand::Write;
  if (payload && out.length > kNbdMaxPayload) {
    return end(EPROTO, fmt::format("the kernel's WRITE of {} bytes is too long", out.length));
  }
  window_begin_ += sizeof header;
  // Writes mostly come in company. Asking for one header only behind a write leaves the payload of
  // the next one in the socket, to be received in place instead of copied.
  headers_ahead_ = payload ? 1 : kWindowHeaders;
  return Arrival::Complete;
}

NbdSocket::Arrival NbdSocket::fill_window() {
  const std::size_t have = buffered();
  std::memmove(window_.data(), window_.data() + window_begin_, have);
  window_begin_ = 0;
  window_end_ = have;
  const std::size_t room = headers_ahead_ * sizeof(NbdRequestHeader) - have;
  const iovec piece{window_.data() + have, room};
  std::size_t got = 0;
  const Arrival arrival = receive({&piece, 1}, got);
  window_end_ += got;
  if (arrival == Arrival::Nothing || arrival == Arrival::Ended) return arrival;
  return buffered() >= sizeof(NbdRequestHeader) ? Arrival::Complete : Arrival::Partial;
}

NbdSocket::Arrival NbdSocket::receive_payload(std::span<std::byte> target, bool last,
                                              std::size_t& got) {
  got = take_buffered(target);
  if (got == target.size()) return Arrival::Complete;

  const std::span<std::byte> rest = target.subspan(got);
  window_begin_ = window_end_ = 0;
  const std::array<iovec, 2> pieces{
      {{rest.data(), rest.size()}, {window_.data(), sizeof(NbdRequestHeader)}}};
  std::size_t received = 0;
  const Arrival arrival = receive(std::span(pieces).first(last ? 2 : 1), received);
  if (received < rest.size()) {
    got += received;
    if (arrival == Arrival::Ended) return arrival;
    return got > 0 ? Arrival::Partial : Arrival::Nothing;
  }
  got = target.size();
  window_end_ = received - rest.size();
  return Arrival::Complete;
}

std::size_t NbdSocket::take_buffered(std::span<std::byte> target) {
  const std::size_t count = std::min(buffered(), target.size());
  if (count == 0) return 0;
  std::memcpy(target.data(), window_.data() + window_begin_, count);
  window_begin_ += count;
  return count;
}

NbdSocket::Arrival NbdSocket::receive(std::span<const iovec> pieces, std::size_t& got) {
  if (ended_) return Arrival::Ended;
  if (drained_) return Arrival::Nothing;
  std::size_t asked = 0;
  for (const iovec& piece : pieces) asked += piece.iov_len;
  msghdr message{};
  // recvmsg() changes no iovec. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  ssize_t count = 0;
  do {
    count = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  } while (count < 0 && errno == EINTR);
  // Reset: it closed without having read all of our replies.
  if (count == 0 || (count < 0 && errno == ECONNRESET)) {
    return end(EPIPE, "the kernel closed its end of the socket");
  }
  if (count < 0 && errno != EAGAIN) return end(errno, "cannot receive from the kernel");
  if (count < 0) return Arrival::Nothing;
  got = static_cast<std::size_t>(count);
  drained_ = got < asked;
  return drained_ ? Arrival::Partial : Arrival::Complete;
}

void NbdSocket::queue_reply(std::uint32_t slot, const NbdCookie& cookie, std::uint32_t nbd_error) {
  RNBD_ASSERT(slot < headers_.size() && queue_count_ < queue_.size());
  headers_[slot] = {.magic = kNbdReplyMagic, .error = nbd_error, .cookie = cookie};
  queue_[(queue_begin_ + queue_count_++) % queue_.size()].slot = slot;
  push_piece(&headers_[slot], sizeof headers_[slot]);
}

void NbdSocket::add_payload(std::span<std::byte> data) {
  RNBD_ASSERT(queue_count_ > 0);
  push_piece(data.data(), data.size());
}

void NbdSocket::push_piece(void* data, std::size_t length) {
  if (piece_end_ == pieces_.size()) {
    std::move(pieces_.begin() + static_cast<std::ptrdiff_t>(piece_begin_), pieces_.end(),
              pieces_.begin());
    piece_end_ -= std::exchange(piece_begin_, 0);
  }
  RNBD_ASSERT(length > 0 && piece_end_ < pieces_.size());
  pieces_[piece_end_++] = {data, length};
  bytes_queued_ += length;
  queue_[(queue_begin_ + queue_count_ - 1) % queue_.size()].end = bytes_queued_;
}

NbdSocket::Sending NbdSocket::flush() {
  blocked_ = false;
  while (piece_begin_ < piece_end_) {
    if (sending_ended_) return end_sending(0);
    msghdr message{};
    message.msg_iov = &pieces_[piece_begin_];
    message.msg_iovlen = std::min<std::size_t>(piece_end_ - piece_begin_, UIO_MAXIOV);
    const ssize_t count = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      taken(static_cast<std::size_t>(count));
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

void NbdSocket::taken(std::size_t bytes) {
  bytes_sent_ += bytes;
  while (bytes > 0) {
    iovec& piece = pieces_[piece_begin_];
    const std::size_t part = std::min(bytes, piece.iov_len);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + part;
    piece.iov_len -= part;
    bytes -= part;
    if (piece.iov_len == 0) ++piece_begin_;
  }
  if (piece_begin_ == piece_end_) piece_begin_ = piece_end_ = 0;
  while (queue_count_ > 0 && queue_[queue_begin_].end <= bytes_sent_) {
    const std::uint32_t slot = queue_[queue_begin_].slot;
    queue_begin_ = (queue_begin_ + 1) % queue_.size();
    --queue_count_;
    events_.on_reply_taken(slot);
  }
}

void NbdSocket::drop_replies() {
  piece_begin_ = piece_end_ = 0;
  bytes_sent_ = bytes_queued_;
  blocked_ = false;
  taken(0);
}

}  // namespace rnbd::client
