// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/service_queue.h"

#include "common/assert.h"

namespace rnbd::rtrs {

void ServiceQueue::send(ServiceMessage message) {
  const bool idle = waiting_.empty();
  waiting_.push_back(std::move(message));
  if (idle) submit_waiting();
}

void ServiceQueue::on_permits_available() { submit_waiting(); }

void ServiceQueue::submit_waiting() {
  while (!waiting_.empty()) {
    PermitId permit = 0;
    if (!queue_.acquire({&permit, 1}, *this)) return;
    std::optional<ServiceMessage>& sent = sent_[permit];
    sent = std::move(waiting_.front());
    waiting_.pop_front();
    queue_.submit(permit, sent->direction, sent->answer_length, sent->message, *this);
  }
}

void ServiceQueue::on_request_done(PermitId permit, int error) {
  ServiceMessage message = std::move(*std::exchange(sent_[permit], std::nullopt));
  std::vector<std::byte> body;
  if (error == 0) {
    const auto data = queue_.buffer(permit).first(message.answer_length);
    body.assign(data.begin(), data.end());
  }
  queue_.release({&permit, 1});
  answer(std::move(message), error, std::move(body));
}

void ServiceQueue::on_request_renewed(PermitId, std::span<std::byte>) {
  // fail_all() has ended everything sent before.
  RNBD_ASSERT(false && "a service message outlived its path");
}

void ServiceQueue::fail_all(int error) {
  queue_.abandon(*this);
  queue_.cancel_wait(*this);
  for (std::optional<ServiceMessage>& sent : sent_) {
    if (sent) answer(std::move(*std::exchange(sent, std::nullopt)), error, {});
  }
  for (ServiceMessage& message : std::exchange(waiting_, {})) answer(std::move(message), error, {});
}

void ServiceQueue::answer(ServiceMessage message, int error, std::vector<std::byte> body) {
  control_.post([done = std::move(message.done), error, body = std::move(body)]() mutable {
    done(error, std::move(body));
  });
}

}  // namespace rnbd::rtrs
