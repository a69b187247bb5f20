// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/path_keeper.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::rtrs {

PathKeeper::PathKeeper(transport::Fabric& fabric, ControlContext& control,
                       std::vector<WorkerContext*> workers, std::size_t index, PathSpec spec,
                       const KeeperSettings& settings, PathOwner& owner)
    : fabric_(fabric),
      control_(control),
      workers_(std::move(workers)),
      index_(index),
      spec_(std::move(spec)),
      settings_(settings),
      owner_(owner),
      delay_(limits::kReconnectDelayMin),
      timeout_(limits::kReconnectTimeoutMin),
      random_(settings.seed + index) {}

PathKeeper::~PathKeeper() { RNBD_ASSERT(life_ == nullptr); }

void PathKeeper::move_to(KeeperState next) {
  if (std::exchange(state_, next) != next) owner_.on_state(*this);
}

/// Tells those who wait what came of it; they may do anything, but not in here.
void PathKeeper::settle(const Status& status) {
  if (waiting_.empty()) return;
  control_.post([waiting = std::exchange(waiting_, {}), status]() mutable {
    for (Done& done : waiting) done(status);
  });
}

Route PathKeeper::route() const {
  // The same two addresses, whatever the system would choose now.
  Route route = spec_.route;
  if (route.source.text.empty()) route.source.text = local_address_;
  return route;
}

void PathKeeper::resume() {
  unanswered_ = true;
  was_up_ = true;
}

void PathKeeper::connect() {
  wanted_ = true;
  again_ = true;
  delay_ = limits::kReconnectDelayMin;
  if (state_ == KeeperState::Idle || state_ == KeeperState::Waiting ||
      state_ == KeeperState::Down) {
    retry_.reset();
    at_once_ = true;
    next();
  }
}

void PathKeeper::reconnect(Done done) {
  waiting_.push_back(std::move(done));
  connect();
  if (!connected()) return;
  at_once_ = true;
  life_->close({EAGAIN, "it is connected anew"});
}

void PathKeeper::drain(Done done) {
  if (!connected()) {
    disconnect({ECANCELED, "disconnected by the administrator"});
    control_.post([done = std::move(done)]() mutable { done({}); });
    return;
  }
  waiting_.push_back(std::move(done));
  wanted_ = false;
  if (std::exchange(draining_, true)) return;
  owner_.on_state(*this);
  owner_.stop_using(*this, [this] { watch_drain(); });
}

void PathKeeper::watch_drain() {
  if (!draining_) return;
  if (owner_.in_flight(*this) > 0) {
    drained_ = control_.call_after(limits::kDrainLook, [this] { watch_drain(); });
    return;
  }
  disconnect({ECANCELED, "disconnected by the administrator"});
}

void PathKeeper::on_link_up() {
  if (state_ == KeeperState::Waiting) {
    connect();
  } else if (state_ == KeeperState::Connecting && was_up_ && !life_->reached()) {
    // What it has asked may have been lost, and would be repeated only after seconds.
    delay_ = limits::kReconnectDelayMin;
    at_once_ = true;
    life_->close({EAGAIN, "a link has come up"});
  }
}

void PathKeeper::disconnect(const Error& why) {
  wanted_ = false;
  retry_.reset();
  if (life_ != nullptr) {
    life_->close(why);
  } else {
    next();
  }
}

void PathKeeper::end(bool fenced) {
  ending_ = true;
  owner_.on_state(*this);
  if (!fenced) {
    needs_fence_ = false;
    fence_.reset();
  }
  disconnect({ECANCELED, "the path is removed"});
}

void PathKeeper::on_other_path_up() {
  if (state_ == KeeperState::Connecting && may_create_) {
    // It asks for a session of its own if the server, started anew, has none, while the other path
    // leads to where it leads.
    life_->close({EAGAIN, "another path was faster"});
    return;
  }
  if (!unanswered_ || fence_ != nullptr) return;
  if (state_ == KeeperState::Connecting) {
    // Its requests need not wait for the end of this attempt.
    at_once_ = true;
    life_->close({EAGAIN, "another path was faster"});
  } else {
    retry_.reset();
    next();
  }
}

void PathKeeper::on_other_path_lost() {
  if (fence_ != nullptr) fence_->ask_anew();
}

void PathKeeper::open() {
  move_to(KeeperState::Connecting);
  may_create_ = !owner_.live_route(*this).has_value();
  PathEvents& events = *this;
  life_ = std::make_unique<ClientPath>(
      fabric_, control_, workers_,
      PathSettings{.source = spec_.route.source,
                   .destination = spec_.route.destination,
                   .session_name = settings_.session_name,
                   .session_uuid = settings_.session_uuid,
                   .path_uuid = spec_.uuid,
                   .attempt = ++attempts_,
                   .may_create_session = may_create_,
                   .heartbeat = settings_.heartbeat,
                   .connect_timeout = was_up_ ? timeout_ : Duration(limits::kConnectTimeout)},
      stats_, events);
  life_->start();
}

Result<SessionCore*> PathKeeper::on_path_parameters(const ServerParameters& parameters) {
  if (may_create_ && owner_.live_route(*this)) {
    // A server that was started meanwhile has made a session of its own for us, while the other
    // path still leads to the old one. Behind a pause, in which that session ends again.
    return fail(EAGAIN, "another path was faster");
  }
  if (unanswered_) {
    // The server has taken connection 0: of the path's last life nothing is left there.
    unanswered_ = false;
    owner_.send_again(*this);
  }
  return owner_.on_parameters(parameters);
}

void PathKeeper::on_path_connected() {
  if (was_up_) ++reconnects_;
  was_up_ = true;
  failed_ = 0;
  delay_ = limits::kReconnectDelayMin;
  timeout_ = limits::kReconnectTimeoutMin;
  local_address_ = life_->local_address();
  peer_address_ = life_->peer_address();
  move_to(KeeperState::Connected);
  owner_.on_up(*this);
  settle({});
}

void PathKeeper::on_path_lost(const Error& error) {
  const bool was_up = state_ == KeeperState::Connected;
  made_way_ = error.code == EAGAIN;
  if (!made_way_) last_error_ = describe(error);
  move_to(KeeperState::Closing);
  if (was_up) {
    unanswered_ = true;
  } else if (!made_way_) {
    ++failed_;
  }
  // One that does not answer at all may be slow: it gets more time. One that refuses is there.
  timeout_ = error.code == ETIMEDOUT
                 ? std::min<Duration>(timeout_ * 3 / 2, limits::kReconnectTimeoutMax)
                 : Duration(limits::kReconnectTimeoutMin);
  // Drained is what it was asked to be; whoever asked for a connection is told what is wrong.
  if (std::exchange(draining_, false)) {
    drained_.reset();
    settle({});
  } else if (!made_way_) {
    settle(fail(error));
  }
  again_ = owner_.on_lost(*this, error, was_up);
  // The server's end of it can begin while ours is under way.
  if (unanswered_ && owner_.live_route(*this)) fence();
}

void PathKeeper::on_path_closed() {
  // Only now can no adapter write into a buffer any more.
  owner_.let_go(*this, [this] {
    life_.reset();
    next();
  });
}

void PathKeeper::next() {
  if (life_ != nullptr) return;
  if (!finish_life()) return;
  if (ending_) {
    if (unanswered_ || std::exchange(ended_, true)) return;
    settle(fail(ECANCELED, "the path is removed"));
    owner_.on_ended(*this);
    return;
  }
  const bool spent =
      settings_.max_attempts >= 0 && failed_ > static_cast<std::uint32_t>(settings_.max_attempts);
  if (!wanted_ || !again_ || (spent && !at_once_)) {
    at_once_ = false;
    move_to(KeeperState::Down);
    settle(fail(ECANCELED, "the path is disconnected"));
    return;
  }
  schedule();
}

/// The queue pairs are gone. False: what the life has not answered is being fenced.
bool PathKeeper::finish_life() {
  if (!unanswered_) return true;
  if (!needs_fence_) fenced_ = true;
  if (!fenced_ && owner_.live_route(*this)) fence();
  if (fence_ != nullptr) {
    move_to(KeeperState::Fencing);
    return false;
  }
  if (std::exchange(fenced_, false)) {
    unanswered_ = false;
    owner_.send_again(*this);
  }
  return true;
}

void PathKeeper::fence() {
  if (fence_ != nullptr || fenced_ || !needs_fence_) return;
  fence_ = std::make_unique<PathFence>(
      fabric_, control_, fence_request(), [this] { return owner_.live_route(*this); },
      [this](PathFence::Outcome outcome) { on_fenced(outcome); });
}

ConnectRequest PathKeeper::fence_request() const {
  ConnectRequest request;
  request.cid = 0;
  request.connections = static_cast<std::uint16_t>(workers_.size());
  request.reconnect_count = attempts_;
  request.path_uuid = spec_.uuid;
  request.session_uuid = settings_.session_uuid;
  return request;
}

void PathKeeper::on_fenced(PathFence::Outcome outcome) {
  fence_.reset();
  // With a server that cannot be asked nothing better is left than our own end's being gone.
  fenced_ = outcome != PathFence::Outcome::NoPath;
  next();
}

void PathKeeper::schedule() {
  if (std::exchange(at_once_, false)) {
    open();
    return;
  }
  move_to(KeeperState::Waiting);
  retry_ = control_.call_after(pause(), [this] { open(); });
}

/// Between three and five quarters of the delay, which doubles.
Duration PathKeeper::pause() {
  const auto percent = static_cast<int>(75 + random_() % 51);
  const Duration pause = delay_ * percent / 100;
  delay_ = std::min<Duration>(delay_ * 2, limits::kReconnectDelayMax);
  return pause;
}

}  // namespace rnbd::rtrs
