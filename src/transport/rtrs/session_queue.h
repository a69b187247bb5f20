// SPDX-License-Identifier: Apache-2.0
// One worker's part of a client's session: requests from the layers above on one side, that
// worker's connection of the live path on the other. Outlives every path: while none is up,
// requests wait here. Everything on its worker's thread but where it says otherwise; the session
// owns it.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "transport/rtrs/client_connection.h"
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

class SessionQueue final : public RequestChannel,
                           public ResponseSink,
                           public PermitSleeper,
                           public Pollable {
 public:
  SessionQueue(std::uint32_t index, SessionCore& core, WorkerContext& worker);

  // The session's side.

  /// From now on requests leave through `connection`, once the gate is open.
  void connect(ClientConnection& connection);

  /// Lets requests out. `new_life`: the server knows nothing of what was sent before, so that
  /// requests are renewed by their owners first.
  void open_gate(bool new_life);

  /// The connection is gone, and with it all access to buffers: what it had not answered waits.
  void disconnect();

  [[nodiscard]] QueueCounters counters() const;
  [[nodiscard]] WorkerContext& worker() { return worker_; }

  void wake_for_permits() override;  ///< any thread

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
  void abandon(RequestOwner& owner) override;

  // ResponseSink.
  [[nodiscard]] bool awaits(PermitId permit) const override { return sent_[permit]; }
  bool on_response(PermitId permit, int error) override;
  void on_connection_room() override { send_waiting(); }

  // Pollable: only to be woken, for waiters to be called outside of anybody's call.
  std::size_t poll() override;
  [[nodiscard]] int wait_fd() const override { return -1; }

 private:
  [[nodiscard]] bool can_send() const { return connection_ != nullptr && gate_open_; }
  void send_waiting();
  bool send(PermitId permit);

  const std::uint32_t index_;
  SessionCore& core_;
  WorkerContext& worker_;
  ClientConnection* connection_ = nullptr;
  bool gate_open_ = false;
  std::uint32_t life_ = 0;
  std::vector<bool> sent_;         ///< by permit: on the wire, unanswered
  std::vector<PermitId> waiting_;  ///< to be sent, oldest first; has room for every permit
  std::vector<PermitWaiter*> waiters_;
  bool waking_ = false;
  std::atomic<bool> permits_came_ = false;
  std::uint32_t in_flight_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t resent_ = 0;
};

}  // namespace rnbd::rtrs
