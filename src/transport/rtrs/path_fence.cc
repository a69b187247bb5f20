// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/path_fence.h"

#include <cerrno>
#include <utility>

#include "common/log.h"
#include "transport/rtrs/handshake.h"

namespace rnbd::rtrs {
namespace {

/// Nothing is ever sent over the connection that is asked for.
constexpr transport::QueueSize kSmallestQueue{.send_work = 2, .receive_work = 2};

}  // namespace

PathFence::PathFence(transport::Fabric& fabric, ControlContext& control,
                     const ConnectRequest& request, Via via,
                     std::move_only_function<void(Outcome)> done)
    : fabric_(fabric),
      control_(control),
      request_(request),
      via_(std::move(via)),
      done_(std::move(done)) {
  // Not from inside the constructor: it may have to say at once that there is no path.
  timer_ = control_.call_after(Duration::zero(), [this] { ask(); });
}

void PathFence::ask() {
  const auto route = via_();
  if (!route) return finish(Outcome::NoPath);
  timer_ = control_.call_after(limits::kFenceTimeout, [this] { ask_again(); });
  log::debug("asking over {} for the end of a path's life", route->destination.text);
  auto endpoint = fabric_.dial(route->source, route->destination, *this);
  if (!endpoint) return ask_again();
  endpoint_ = std::move(*endpoint);
}

void PathFence::on_resolved() {
  Status asked = endpoint_->open_queue(kSmallestQueue);
  if (asked) asked = endpoint_->connect(bytes_of(request_));
  if (!asked) ask_again();
}

void PathFence::on_rejected(std::span<const std::byte> private_data) {
  const Error answer = parse_reject(private_data);
  log::debug("answer: {}", describe(answer));
  switch (answer.code) {
    case EEXIST:  // the life is over: these addresses are another path's
    case ENXIO:   // the whole session is
      finish(Outcome::Over);
      break;
    case ECONNRESET:
      if (++refusals_ > limits::kFenceRefusals) {
        finish(Outcome::Unanswered);
      } else {
        ask_again();
      }
      break;
    default:
      ask_again();
      break;
  }
}

void PathFence::ask_again(Duration pause) {
  endpoint_.reset();
  timer_ = control_.call_after(pause, [this] { ask(); });
}

void PathFence::finish(Outcome outcome) {
  endpoint_.reset();
  timer_.reset();
  auto done = std::move(done_);
  done(outcome);
}

}  // namespace rnbd::rtrs
