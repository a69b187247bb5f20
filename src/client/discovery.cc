// SPDX-License-Identifier: Apache-2.0
#include "client/discovery.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "client/path_control.h"

namespace rnbd::client {
namespace {

rtrs::SessionSettings settings_for(rtrs::PathSpec path, const RandomSource& random) {
  return {.name = fmt::format("discover-{:08x}", random_value<std::uint32_t>(random)),
          .paths = {std::move(path)},
          .session_uuid = random_value<rtrs::Uuid>(random),
          .seed = random_value<std::uint64_t>(random)};
}

}  // namespace

Discovery::Discovery(transport::Fabric& fabric, ControlContext& control, WorkerContext& worker,
                     rtrs::PathSpec path, const RandomSource& random, Done done)
    : control_(control),
      found_{.path = text_of(path.route)},
      done_(std::move(done)),
      session_(fabric, control, {&worker}, settings_for(std::move(path), random), *this) {
  // Only a session that goes on where another one ended can fail to start.
  static_cast<void>(session_.start());
}

void Discovery::on_session_up() {
  const auto passed = Clock::now() - begun_;
  found_.state = "reachable";
  found_.local_address = session_.local_address();
  found_.queue_depth = session_.queue_depth();
  found_.max_io_bytes = session_.queue(0).max_io_size();
  found_.answered_in_us = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(passed).count());
  conclude();
}

void Discovery::on_session_down(const Error& error, bool) {
  if (concluding_) return;
  found_.state = "unreachable";
  found_.last_error = describe(error);
  conclude();
}

void Discovery::conclude() {
  if (std::exchange(concluding_, true)) return;
  // Not from inside the session's own call.
  control_.post([this] { session_.close([this] { done_(std::move(found_)); }); });
}

}  // namespace rnbd::client
