// SPDX-License-Identifier: Apache-2.0
// What must survive of one queue when the process is killed between any two instructions: where it
// is in both byte streams of its socket, which requests are unanswered, and which buffers hold data
// of theirs. A view of shared memory, written by the queue's worker; recover() is the successor's.
//
// How it stays exact without a lock, a system call more or a byte copied twice:
//  * Bytes move in recvmmsg() and sendmmsg() of one message, whose mmsghdr lies in here. The kernel
//    itself writes msg_len, inside the call that takes the bytes; a kill before we can store the
//    result leaves the kernel's word.
//  * Everything else is a record that counts only once a Cell says so, and each step can be done
//    again: a successor that is killed while it recovers is no special case.
//
// Always holds, in this order of the request stream:
//     start of a request ≤ parsed ≤ received, and the bytes [parsed, received) are in the window.
// Bytes before `parsed` are in records and buffers. A request's record counts if its header lies
// before `parsed`. How much of a WRITE's payload is here follows from `parsed` alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <sys/socket.h>
#include <sys/uio.h>

#include "client/journal_cell.h"
#include "client/nbd_wire.h"
#include "common/result.h"

namespace rnbd::client {

/// No call moves so many bytes: the kernel has not written its word yet.
inline constexpr unsigned kNoOutcome = ~0U;

struct JournalShape {
  std::uint32_t requests = 256;  ///< slots, numbered from 0
  std::uint32_t permits = 512;   ///< of the session, numbered from 0

  bool operator==(const JournalShape&) const = default;
};

/// A part of a request's data in a buffer: a WRITE's that the server may not have yet, or a READ's
/// for the reply.
struct JournalPiece {
  std::uint16_t permit = 0;
  std::uint32_t offset = 0;  ///< in the request's data, bytes
  std::uint32_t length = 0;
};

class Journal {
 public:
  static constexpr std::uint32_t kWindow = 512;  ///< bytes of headers received ahead

  static std::size_t bytes(const JournalShape& shape);

  /// Over `memory` of bytes(shape) or more, aligned to 8, which outlives it. All zeroes is an empty
  /// journal.
  Journal(std::span<std::byte> memory, const JournalShape& shape);

  // --- the stream of requests ---

  /// Receives up to `room` bytes into the window. Nothing: errno says why. 0: the end.
  std::optional<std::size_t> receive_ahead(int fd, std::size_t room);

  /// Receives into `target`, which is where the payload goes on; the window is empty. `ahead`: room
  /// for bytes behind it, into the window. The answer counts both.
  std::optional<std::size_t> receive_payload(int fd, std::span<std::byte> target,
                                             std::size_t ahead);

  [[nodiscard]] std::size_t ahead() const { return received() - parsed(); }
  [[nodiscard]] NbdRequestHeader next_header() const;  ///< ahead() holds one

  /// The next header becomes the request of `slot`.
  void open(std::uint16_t slot);
  /// The next header becomes nothing.
  void skip_header() { head_->parsed.set(parsed() + sizeof(NbdRequestHeader)); }
  /// Takes payload out of the window; the answer is how much.
  std::size_t take_ahead(std::span<std::byte> target);

  // --- requests and their data ---

  void set_error(std::uint16_t slot, int error) { requests_[slot].error.set(error); }
  [[nodiscard]] bool is_open(std::uint16_t slot) const { return requests_[slot].open.get() != 0; }
  [[nodiscard]] int error(std::uint16_t slot) const { return requests_[slot].error.get(); }
  [[nodiscard]] NbdRequestHeader header(std::uint16_t slot) const { return requests_[slot].header; }
  /// How much of a WRITE's payload has been received.
  [[nodiscard]] std::uint32_t payload_received(std::uint16_t slot) const;

  /// From now on `piece` belongs to the request of `slot`. For a WRITE before its data arrives.
  void hold(std::uint16_t slot, const JournalPiece& piece);
  /// The server has it, or nobody wants it. Before its permit is given back.
  void drop(std::uint16_t permit) { pieces_[permit].owner.set(0); }

  // --- the stream of replies ---

  /// The next reply is that of `slot`, `length` bytes. At most one for each slot at a time.
  void queue_reply(std::uint16_t slot, std::size_t length);
  /// The reply queued last is longer. Before any of it is sent.
  void extend_reply(std::size_t length);

  /// Sends what begins where the stream is. Nothing: errno says why.
  std::optional<std::size_t> send(int fd, std::span<iovec> pieces);

  /// The slot whose reply has gone out as a whole, oldest first; then it is free.
  std::optional<std::uint16_t> next_answered();

  /// The slot of the oldest reply, which will never go out as a whole; then it is free.
  std::optional<std::uint16_t> next_forgotten();

  /// Bytes of all replies that went out.
  [[nodiscard]] std::uint64_t sent() const { return head_->sent.get(); }

  // --- the successor ---

  struct HalfSent {
    std::uint16_t slot = 0;
    std::size_t sent = 0;  ///< bytes of its reply, not 0
  };

  struct Recovered {
    std::vector<std::uint16_t> open;    ///< unanswered, oldest first, half_sent's not
    std::optional<HalfSent> half_sent;  ///< goes on before any other reply
  };

  /// Brings the journal to rest and says what is left to do. Of pieces only those remain that are
  /// needed: an unanswered WRITE's that has not failed, and those of a half sent READ. The former
  /// owner is dead. Errors: EPROTO, if this is no journal.
  Result<Recovered> recover();

  /// The pieces of a request, by offset.
  [[nodiscard]] std::vector<JournalPiece> pieces(std::uint16_t slot) const;
  /// Every permit that holds a piece.
  [[nodiscard]] std::vector<std::uint16_t> permits() const;

  [[nodiscard]] const JournalShape& shape() const { return shape_; }

 private:
  struct Call {
    Cell<std::uint64_t> at;      ///< the stream's position when it was made: later it is void
    Cell<std::uint32_t> direct;  ///< bytes of it that are payload
    mmsghdr message;
  };

  struct Head {
    Cell<std::uint64_t> parsed;
    Cell<std::uint64_t> received;
    Call receive;
    Cell<std::uint64_t> sent;
    Call send;
    Cell<std::uint64_t> first_reply;  ///< replies are counted from 0 on
    Cell<std::uint64_t> end_reply;
    std::array<std::byte, kWindow> window;  ///< a ring, by position in the stream
  };

  struct RequestRecord {
    Cell<std::uint32_t> open;
    Cell<std::int32_t> error;
    std::uint64_t position;  ///< of the header in the stream
    NbdRequestHeader header;
  };

  struct PieceRecord {
    Cell<std::uint32_t> owner;  ///< slot + 1
    std::uint32_t offset;
    std::uint32_t length;
  };

  struct ReplyRecord {
    std::uint64_t begin;  ///< in the stream
    std::uint64_t end;
    std::uint32_t slot;
  };

  [[nodiscard]] std::uint64_t parsed() const { return head_->parsed.get(); }
  [[nodiscard]] std::uint64_t received() const { return head_->received.get(); }
  ReplyRecord& reply(std::uint64_t number) { return replies_[number % replies_.size()]; }
  void prepare(Call& call, std::uint64_t at, std::size_t direct, std::span<iovec> pieces);
  std::optional<std::size_t> receive(int fd, std::size_t direct, std::span<iovec> pieces);
  void apply_received(std::size_t count);
  std::array<iovec, 2> window_room(std::uint64_t from, std::size_t room) const;
  void copy_ahead(std::span<std::byte> target) const;
  void free_answered(std::uint64_t number);

  void settle_streams();
  [[nodiscard]] Status check() const;
  [[nodiscard]] Status check_requests() const;
  [[nodiscard]] Status check_replies() const;
  std::optional<HalfSent> settle_replies();
  void settle_pieces(const std::optional<HalfSent>& half_sent);
  [[nodiscard]] bool is_needed(const PieceRecord& piece,
                               const std::optional<HalfSent>& half_sent) const;

  JournalShape shape_;
  Head* head_;
  std::span<RequestRecord> requests_;
  std::span<PieceRecord> pieces_;
  std::span<ReplyRecord> replies_;
};

}  // namespace rnbd::client
