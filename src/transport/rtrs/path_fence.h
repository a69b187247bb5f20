// SPDX-License-Identifier: Apache-2.0
// Makes a server end the last life of a path that was lost, over another path's addresses: an
// ordinary request to connect that names the lost path. A server of ours ends that life and answers
// EEXIST, since the addresses are another path's; so does a kernel's, once the life is over by
// itself. While it is not, a kernel's server answers ECONNRESET, however often it is asked: it is
// asked for half a second and no longer, for it may take the kernel half a minute to find out.
//
// Control thread; the lost path's keeper owns it. Asks until it has an answer, or no path is left
// to ask over.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/control_context.h"
#include "common/limits.h"
#include "transport/fabric.h"
#include "transport/rtrs/wire.h"

namespace rnbd::rtrs {

/// The two ends of a path.
struct Route {
  transport::Address source;  ///< text may be empty: the system chooses
  transport::Address destination;
};

class PathFence final : private transport::EndpointEvents {
 public:
  enum class Outcome : std::uint8_t {
    Over,        ///< nothing of that life can arrive at the server any more
    Unanswered,  ///< the server cannot be made to end it
    NoPath,      ///< nothing is left to ask over
  };
  /// A live path to ask over; asked again for each question.
  using Via = std::function<std::optional<Route>()>;

  /// `request` names the lost path. `done` is called once; it may destroy the fence.
  PathFence(transport::Fabric& fabric, ControlContext& control, const ConnectRequest& request,
            Via via, std::move_only_function<void(Outcome)> done);

  /// The path that is asked over may have been lost.
  void ask_anew() { ask_again(Duration::zero()); }

 private:
  void on_resolved() override;
  void on_established(std::span<const std::byte>) override { finish(Outcome::Over); }
  void on_rejected(std::span<const std::byte> private_data) override;
  void on_failed(const Error&) override { ask_again(); }
  void on_disconnected(const std::string&) override { ask_again(); }

  void ask();
  void ask_again(Duration pause = limits::kFencePause);
  void finish(Outcome outcome);

  transport::Fabric& fabric_;
  ControlContext& control_;
  ConnectRequest request_;
  Via via_;
  std::move_only_function<void(Outcome)> done_;
  unsigned refusals_ = 0;
  std::unique_ptr<transport::Endpoint> endpoint_;
  std::unique_ptr<ControlContext::Timer> timer_;
};

}  // namespace rnbd::rtrs
