// SPDX-License-Identifier: Apache-2.0
// One worker's way to the server of a session, as the layers above RTRS use it: permits, the
// registered buffer behind each, and requests. Everything happens on that worker's thread.
#pragma once

#include <cstdint>
#include <span>

#include "common/clock.h"

namespace rnbd::rtrs {

/// The right to use one chunk of the server; its number is the chunk's and the buffer's.
using PermitId = std::uint16_t;

enum class Direction : std::uint8_t { Read, Write };

/// Whose request it is.
class RequestOwner {
 public:
  virtual ~RequestOwner() = default;
  /// The server has answered: `error` is 0 or a positive errno. The permit stays with the owner.
  /// Never called from inside submit().
  virtual void on_request_done(PermitId permit, int error) = 0;
  /// The request is about to be sent again, to a server that knows nothing of the earlier session:
  /// bring `user_message` up to date.
  virtual void on_request_renewed(PermitId permit, std::span<std::byte> user_message) = 0;
};

/// How a request went.
struct RequestTrip {
  TimePoint sent;         ///< when it was first handed to a path
  std::uint8_t path = 0;  ///< the number of the one that it was last handed to
};

/// Waits for permits.
class PermitWaiter {
 public:
  virtual ~PermitWaiter() = default;
  /// Worth trying again. Called once for each refused acquire(), never from inside another call of
  /// the channel.
  virtual void on_permits_available() = 0;
};

class RequestChannel {
 public:
  virtual ~RequestChannel() = default;

  [[nodiscard]] virtual std::uint32_t max_io_size() const = 0;  ///< data bytes per request

  /// How many permits one acquire() may ask for and is sure to get in the end.
  [[nodiscard]] virtual std::uint32_t max_permits() const = 0;

  /// Fills `permits`, or takes none, answers false and calls `waiter` once when it is worth trying
  /// again.
  virtual bool acquire(std::span<PermitId> permits, PermitWaiter& waiter) = 0;
  virtual void cancel_wait(PermitWaiter& waiter) = 0;
  virtual void release(std::span<const PermitId> permits) = 0;

  /// The registered buffer behind a permit, max_io_size() bytes: a write's data is put here before
  /// submit(), a read's is found here in on_request_done().
  virtual std::span<std::byte> buffer(PermitId permit) = 0;

  /// Sends a request. `data_length` bytes of the buffer go out (Write) or are awaited (Read); 0 for
  /// operations without data. `user_message` (at most kMaxUserMessage bytes) is copied. While no
  /// path is up the request waits.
  virtual void submit(PermitId permit, Direction direction, std::uint32_t data_length,
                      std::span<const std::byte> user_message, RequestOwner& owner) = 0;

  /// Of the request that is just being answered: for on_request_done() alone.
  [[nodiscard]] virtual RequestTrip trip(PermitId permit) const = 0;

  /// Forgets the owner: its outstanding requests run to their end, their permits then go back by
  /// themselves, and it is not called again.
  virtual void abandon(RequestOwner& owner) = 0;
};

/// Large enough for the longest RNBD message (OPEN, 264 bytes).
inline constexpr std::size_t kMaxUserMessage = 264;

}  // namespace rnbd::rtrs
