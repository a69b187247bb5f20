// SPDX-License-Identifier: Apache-2.0
// The NBD protocol on our end of one socket pair, and no policy: request headers come in, payload
// goes straight where the owner wants it, replies queue up and leave together. Where both streams
// are is in the queue's journal. Owned by a BlockQueue and used on its worker's thread. Always
// holds: no call blocks, nothing is allocated after construction, and bytes that make no sense end
// the socket instead of being guessed at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <sys/uio.h>

#include "client/journal.h"
#include "client/nbd_wire.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::client {

struct NbdSocketPair {
  UniqueFd ours;  ///< does not block
  UniqueFd
      kernels;  ///< for NbdNetlink::connect; the driver holds on to it, ours may be closed then
};

/// A connected pair with room for `buffer_bytes` in each direction (the system may give less to who
/// lacks CAP_NET_ADMIN). Errors: those of socketpair(2).
Result<NbdSocketPair> make_nbd_socket_pair(int buffer_bytes);

/// A request header in host order. `command` is as it came: perhaps none that NbdCommand lists.
struct NbdRequest {
  NbdCommand command{};
  std::uint16_t flags = 0;
  NbdCookie cookie{};
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

NbdRequest to_request(const NbdRequestHeader& header);

class NbdSocketEvents {
 public:
  virtual ~NbdSocketEvents() = default;
  /// The reply queued under `slot` has been copied into the socket: its data may be reused. Called
  /// inside flush() and drop_replies(), in the order of queue_reply().
  virtual void on_reply_taken(std::uint32_t slot) = 0;
};

class NbdSocket {
 public:
  /// How much may be queued at one time: `replies` bounds the slots too (0 … replies - 1).
  struct Room {
    std::uint32_t replies = 0;
    std::uint32_t payload_pieces = 0;
  };

  enum class Arrival : std::uint8_t {
    Complete,  ///< what was asked for is here
    Partial,   ///< some of it; there is no more at the moment
    Nothing,
    Ended,  ///< there will never be more: error() says why
  };

  enum class Sending : std::uint8_t {
    Done,
    Blocked,  ///< the socket is full: again when it is writable
    Starved,  ///< the system lacks memory: again soon
    Ended,    ///< nobody reads any more. Replies are dropped; receiving goes on, up to the end
  };

  /// `journal` has been recovered, and outlives the socket.
  NbdSocket(UniqueFd fd, Journal& journal, Room room, NbdSocketEvents& events);

  // --- receiving ---

  /// Before a series of receiving calls: forgets that the socket was found empty.
  void begin_round() { drained_ = false; }

  /// The next request (Complete), which stays next until it is opened or skipped. Ended: the kernel
  /// closed, or sent a bad magic or a WRITE above kNbdMaxPayload.
  Arrival next_request(NbdRequest& out);

  /// The request is `slot`'s from now on. After a WRITE with a length, receive_payload() comes
  /// until all of it is here.
  void open_request(std::uint16_t slot) { journal_.open(slot); }
  void skip_request() { journal_.skip_header(); }

  /// Receives payload of the WRITE last returned into `target`, never more; `got` says how much.
  /// `last`: with it the payload ends, so that the next header may come along.
  Arrival receive_payload(std::span<std::byte> target, bool last, std::size_t& got);

  // --- replying ---

  /// Queues the reply to a request. A slot is free until this and after on_reply_taken().
  void queue_reply(std::uint32_t slot, const NbdCookie& cookie, std::uint32_t nbd_error);

  /// Adds data to the reply queued last. It is read until on_reply_taken().
  void add_payload(std::span<std::byte> data);

  /// Goes on with the reply that the journal has as half sent, before any other is queued: `sent`
  /// bytes of header and `data` are out. `data` is read until on_reply_taken().
  void go_on(std::uint32_t slot, const NbdCookie& cookie, std::uint32_t nbd_error,
             std::span<const std::span<std::byte>> data, std::size_t sent);

  /// Sends what is queued, as much of it as the socket takes: mostly with one system call.
  Sending flush();

  /// flush() could not send everything.
  [[nodiscard]] bool blocked() const { return blocked_; }

  /// Forgets all queued replies, telling the owner of each.
  void drop_replies();

  /// Why Arrival::Ended. EPIPE: the kernel closed the socket. EPROTO: it sent nonsense.
  [[nodiscard]] const Error& error() const { return error_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  static constexpr std::size_t kWindowHeaders = 16;
  static_assert(kWindowHeaders * sizeof(NbdRequestHeader) <= Journal::kWindow);

  Arrival fill_window();
  Arrival arrived(std::optional<std::size_t> count, std::size_t asked);
  Arrival end(int code, std::string message);
  Sending end_sending(int code);
  void push_piece(void* data, std::size_t length);
  void move_on(std::size_t bytes);
  void tell_taken();

  UniqueFd fd_;
  Journal& journal_;
  NbdSocketEvents& events_;
  Error error_;
  bool ended_ = false;

  std::size_t headers_ahead_ = 1;  ///< how many to ask for; see next_request()
  bool drained_ = false;           ///< the last receive came short

  std::vector<NbdReplyHeader> headers_;  ///< by slot
  std::vector<iovec> pieces_;            ///< [piece_begin_, piece_end_) are still to be sent
  std::size_t piece_begin_ = 0;
  std::size_t piece_end_ = 0;
  bool blocked_ = false;
  bool sending_ended_ = false;
};

}  // namespace rnbd::client
