// SPDX-License-Identifier: Apache-2.0
// Messages of the layer above that are not I/O (RNBD's SESS_INFO, OPEN, CLOSE): sent over
// connection 0 as RTRS requests, answered with a few bytes. They are not sent again when the path
// is lost, but fail. Lives on connection 0's worker; the session owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "common/executor.h"
#include "transport/rtrs/session_queue.h"

namespace rnbd::rtrs {

struct ServiceMessage {
  Direction direction = Direction::Read;
  std::vector<std::byte> message;
  std::uint32_t answer_length = 0;
  /// Called once, on the control thread: 0 or a positive errno, and the answer.
  std::move_only_function<void(int error, std::vector<std::byte> answer)> done;
};

class ServiceQueue final : public RequestOwner, public PermitWaiter {
 public:
  ServiceQueue(SessionQueue& queue, std::uint32_t depth, Executor& control)
      : queue_(queue), control_(control), sent_(depth) {}

  // Worker's thread.
  void send(ServiceMessage message);
  void fail_all(int error);

  void on_request_done(PermitId permit, int error) override;
  void on_request_renewed(PermitId permit, std::span<std::byte> user_message) override;
  void on_permits_available() override;

 private:
  void submit_waiting();
  void answer(ServiceMessage message, int error, std::vector<std::byte> body);

  SessionQueue& queue_;
  Executor& control_;
  std::deque<ServiceMessage> waiting_;
  std::vector<std::optional<ServiceMessage>> sent_;  ///< by permit
};

}  // namespace rnbd::rtrs
