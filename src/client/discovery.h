// SPDX-License-Identifier: Apache-2.0
// Looks whether a server answers at an address, and what it says of itself, by a session of one
// path that opens nothing. RNBD has no message that lists what a server exports. Control thread;
// the control plane owns it.
#pragma once

#include <functional>
#include <string>

#include "client/random.h"
#include "common/control/verbs.h"
#include "common/control_context.h"
#include "transport/rtrs/client_session.h"

namespace rnbd::client {

class Discovery final : private rtrs::SessionEvents {
 public:
  using Done = std::move_only_function<void(control::ServerEntry)>;

  /// `done` is called once nothing is left of the session; the
  /// object may be destroyed then, but not in there.
  Discovery(transport::Fabric& fabric, ControlContext& control, WorkerContext& worker,
            rtrs::PathSpec path, const RandomSource& random, Done done);

 private:
  void on_session_up() override;
  void on_session_down(const Error& error, bool will_retry) override;
  void conclude();

  ControlContext& control_;
  const TimePoint begun_ = Clock::now();
  control::ServerEntry found_;
  Done done_;
  bool concluding_ = false;
  rtrs::ClientSession session_;
};

}  // namespace rnbd::client
