// SPDX-License-Identifier: Apache-2.0
// One worker's part of a client's session: block queues on one side, that worker's connection of
// each live path on the other. Outlives every path: while none is up, requests wait here.
// Everything on its worker's thread but where it says otherwise; the session owns it.
//
// A request that was sent and not answered belongs to the path it was sent on until that path's
// connection is gone, and the server is known to have ended the path's life as well: before, its
// first copy might still arrive there, behind the second one. Only then is it sent again.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "common/limits.h"
#include "transport/rtrs/client_connection.h"
#include "transport/rtrs/path_policy.h"
#include "transport/rtrs/request_channel.h"
#include "transport/rtrs/session_core.h"
#include "transport/worker.h"

namespace rnbd::rtrs {

struct QueueCounters {
  std::uint64_t requests = 0;
  std::uint64_t resent = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t waiting = 0;
};

class SessionQueue final : public RequestChannel, public PermitSleeper, public Pollable {
 public:
  SessionQueue(std::uint32_t index, SessionCore& core, WorkerContext& worker);

  // The session's side. `path` is a number below limits::kMaxClientPaths.

  /// From now on requests may leave through `connection`, once the gate is open. Nothing that was
  /// sent on the path's earlier lives is left.
  void connect(std::size_t path, ClientConnection& connection, const PathStats& stats);

  /// New requests take other paths; what is on its way is waited for.
  void drain(std::size_t path);

  /// The connection is gone, and with it all access to buffers.
  void disconnect(std::size_t path);

  /// Nor will the server see anything more of it: what it had not answered is sent again; of what
  /// was abandoned so much that the server says when it is over. Returns how many that were.
  std::uint32_t send_again(std::size_t path);

  /// Lets requests out. `new_life`: the server knows nothing of what was sent before, so that
  /// requests are renewed by their owners first.
  void open_gate(bool new_life);
  void close_gate() { gate_open_ = false; }

  /// Permits that a process before this one had in use, and nobody knows what for: the server may
  /// be executing something still.
  void adopt(std::span<const PermitId> permits);

  /// The session has ended, at the server too, and all requests have been abandoned.
  void end();

  [[nodiscard]] QueueCounters counters() const;
  [[nodiscard]] WorkerContext& worker() { return worker_; }

  /// Any thread.
  [[nodiscard]] std::uint32_t in_flight(std::size_t path) const {
    return lanes_[path].in_flight.load(std::memory_order_relaxed);
  }
  void wake_for_permits() override;

  // RequestChannel.
  [[nodiscard]] std::uint32_t max_io_size() const override { return core_.max_io_size(); }
  [[nodiscard]] std::uint32_t max_permits() const override {
    return core_.permits.guaranteed(index_);
  }
  bool acquire(std::span<PermitId> permits, PermitWaiter& waiter) override;
  void cancel_wait(PermitWaiter& waiter) override;
  void release(std::span<const PermitId> permits) override;
  std::span<std::byte> buffer(PermitId permit) override {
    return core_.buffer(permit).first(core_.max_io_size());
  }
  void submit(PermitId permit, Direction direction, std::uint32_t data_length,
              std::span<const std::byte> user_message, RequestOwner& owner) override;
  [[nodiscard]] RequestTrip trip(PermitId permit) const override {
    return core_.request(permit).trip;
  }
  void abandon(RequestOwner& owner) override;

  // Pollable: only to be woken, for waiters to be called outside of anybody's call.
  std::size_t poll() override;
  [[nodiscard]] int wait_fd() const override { return -1; }

 private:
  /// One path, as this queue uses it.
  struct Lane final : ResponseSink {
    [[nodiscard]] bool awaits(PermitId permit) const override {
      return queue->sent_on_[permit] == index;
    }
    bool on_response(PermitId permit, int error) override {
      return queue->on_response(*this, permit, error);
    }
    void on_connection_room() override { queue->send_waiting(); }
    void count(int change) {
      const auto now = static_cast<std::int64_t>(in_flight.load(std::memory_order_relaxed));
      in_flight.store(static_cast<std::uint32_t>(now + change), std::memory_order_relaxed);
    }

    SessionQueue* queue = nullptr;
    std::uint8_t index = 0;
    ClientConnection* connection = nullptr;
    const PathStats* stats = nullptr;
    bool drained = false;
    std::atomic<std::uint32_t> in_flight = 0;  ///< written by the worker alone
  };

  static constexpr std::uint8_t kNotSent = UINT8_MAX;
  static_assert(limits::kMaxClientPaths < kNotSent);

  bool on_response(Lane& lane, PermitId permit, int error);
  Lane* pick();
  void send_waiting();
  bool send(PermitId permit);

  const std::uint32_t index_;
  SessionCore& core_;
  WorkerContext& worker_;
  std::array<Lane, limits::kMaxClientPaths> lanes_;
  std::size_t lanes_used_ = 0;  ///< those behind have never been connected
  PathPicker picker_;
  bool gate_open_ = false;
  std::uint32_t life_ = 0;
  std::vector<std::uint8_t> sent_on_;  ///< by permit: the path it is on its way on, or kNotSent
  std::vector<PermitId> waiting_;      ///< to be sent, oldest first; has room for every permit
  std::vector<PermitWaiter*> waiters_;
  bool waking_ = false;
  std::atomic<bool> permits_came_ = false;
  std::uint64_t requests_ = 0;
  std::uint64_t resent_ = 0;
};

}  // namespace rnbd::rtrs
