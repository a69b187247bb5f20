// SPDX-License-Identifier: Apache-2.0
// One path of a client's session over all its lives: brings it up, again and again with growing
// pauses when it is lost, and sees to it that what a life has not answered is sent again only when
// that life is over at both ends. Control thread; the session owns it.
//
//   Idle ─► Connecting ─► Connected ─► Closing ─► Fencing ─► Waiting ─► Connecting …
//
// From Connecting too it goes on to Closing; Fencing is left out when no other path is connected:
// then the server's accepting the next life tells the same. Down, by the administrator or when all
// attempts have failed, is left by connect().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/fabric.h"
#include "transport/rtrs/client_path.h"
#include "transport/rtrs/path_fence.h"

namespace rnbd::rtrs {

enum class KeeperState : std::uint8_t {
  Idle,        ///< not begun
  Connecting,  ///< an attempt is under way
  Connected,
  Closing,  ///< its queue pairs are being destroyed
  Fencing,  ///< the server is being told to end its last life
  Waiting,  ///< for the next attempt
  Down,
};

/// A path as it was asked for.
struct PathSpec {
  Route route;
  Uuid uuid{};  ///< random
};

class PathKeeper;

/// The session, as its paths see it. Control thread.
class PathOwner {
 public:
  virtual ~PathOwner() = default;
  /// The route of a connected path other than `path`.
  [[nodiscard]] virtual std::optional<Route> live_route(const PathKeeper& path) const = 0;
  virtual Result<SessionCore*> on_parameters(const ServerParameters& parameters) = 0;
  virtual void on_up(PathKeeper& path) = 0;
  /// A life ended; `was_up`: it had been connected. Is the path to be tried again?
  virtual bool on_lost(PathKeeper& path, const Error& error, bool was_up) = 0;
  /// Make the queues forget the life's connections, then `done`.
  virtual void let_go(PathKeeper& path, Executor::Task done) = 0;
  /// Make the queues send again what was sent on the path and not answered.
  virtual void send_again(PathKeeper& path) = 0;
  /// Make the queues send nothing more on the path, then `done`.
  virtual void stop_using(PathKeeper& path, Executor::Task done) = 0;
  /// Requests on their way on it.
  [[nodiscard]] virtual std::uint32_t in_flight(const PathKeeper& path) const = 0;
  virtual void on_state(const PathKeeper& path) = 0;
  virtual void on_server_generation(std::uint32_t generation) = 0;
  /// Nothing of it is left, after end(). It may be destroyed, but not in here.
  virtual void on_ended(PathKeeper& path) = 0;
};

struct KeeperSettings {
  std::string session_name;
  Uuid session_uuid{};
  HeartbeatTiming heartbeat;
  int max_attempts = -1;   ///< in a row, after a loss; -1: no end
  std::uint64_t seed = 0;  ///< of the pauses' jitter
};

class PathKeeper final : private PathEvents {
 public:
  /// `index`: the path's number in the session. `workers`: as ClientPath's.
  PathKeeper(transport::Fabric& fabric, ControlContext& control,
             std::vector<WorkerContext*> workers, std::size_t index, PathSpec spec,
             const KeeperSettings& settings, PathOwner& owner);
  ~PathKeeper() override;

  using Done = std::move_only_function<void(Status)>;

  /// It had a life in a process before this one, which the server may still believe in. Before
  /// connect().
  void resume();

  /// Wants it up: begins, or goes on at once where it waits.
  void connect();

  /// The same, with a new life if it has one that is connected. `done`: what came of the attempt.
  void reconnect(Done done);

  /// Sends nothing more on it, waits for what is on its way, and disconnects.
  void drain(Done done);

  /// From the next loss on.
  void set_max_attempts(int attempts) { settings_.max_attempts = attempts; }

  /// A link of this host has come up, or a silent host answers: what is waited for may be there.
  void on_link_up();

  /// Wants it down, and gives up the present life.
  void disconnect(const Error& why);

  /// As disconnect(); on_ended follows once nothing is left. `fenced`: the session lives on, and so
  /// the server has to end the path's last life first.
  void end(bool fenced);

  /// Another path of the session is connected: what this one has lost can be fenced.
  void on_other_path_up();
  void on_other_path_lost();

  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] const PathSpec& spec() const { return spec_; }
  [[nodiscard]] KeeperState state() const { return state_; }
  [[nodiscard]] bool connected() const { return state_ == KeeperState::Connected; }
  [[nodiscard]] bool draining() const { return draining_; }
  [[nodiscard]] bool ending() const { return ending_; }
  [[nodiscard]] const PathStats& stats() const { return stats_; }
  [[nodiscard]] PathStats& stats() { return stats_; }
  [[nodiscard]] const std::string& local_address() const { return local_address_; }
  [[nodiscard]] const std::string& peer_address() const { return peer_address_; }
  [[nodiscard]] const std::string& last_error() const { return last_error_; }
  /// The last life was ended for the sake of the next, and not by an error.
  [[nodiscard]] bool made_way() const { return made_way_; }
  [[nodiscard]] std::uint32_t reconnects() const { return reconnects_; }
  [[nodiscard]] std::uint32_t failed_attempts() const { return failed_; }  ///< in a row
  [[nodiscard]] bool lost_in_info() const { return life_ != nullptr && life_->lost_in_info(); }
  /// The way it goes now; while connected.
  [[nodiscard]] Route route() const;
  [[nodiscard]] ClientConnection& connection(std::uint16_t cid) { return life_->connection(cid); }

 private:
  Result<SessionCore*> on_path_parameters(const ServerParameters& parameters) override;
  void on_path_connected() override;
  void on_path_generation(std::uint32_t generation) override {
    owner_.on_server_generation(generation);
  }
  void on_path_lost(const Error& error) override;
  void on_path_closed() override;

  void move_to(KeeperState next);
  void settle(const Status& status);
  void watch_drain();
  void open();
  void next();
  bool finish_life();
  void fence();
  void on_fenced(PathFence::Outcome outcome);
  void schedule();
  [[nodiscard]] Duration pause();
  [[nodiscard]] ConnectRequest fence_request() const;

  transport::Fabric& fabric_;
  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  const std::size_t index_;
  const PathSpec spec_;
  KeeperSettings settings_;
  PathOwner& owner_;

  KeeperState state_ = KeeperState::Idle;
  std::unique_ptr<ClientPath> life_;
  std::unique_ptr<PathFence> fence_;
  std::unique_ptr<ControlContext::Timer> retry_;
  std::unique_ptr<ControlContext::Timer> drained_;
  std::vector<Done> waiting_;  ///< for what comes of the present attempt
  bool draining_ = false;
  bool wanted_ = false;
  bool again_ = false;       ///< the life that was lost is to be followed by another
  bool at_once_ = false;     ///< without a pause
  bool unanswered_ = false;  ///< a life's requests wait for its end at the server
  bool fenced_ = false;      ///< which is known, while its queue pairs are still being destroyed
  bool ending_ = false;
  bool ended_ = false;
  bool needs_fence_ = true;
  bool may_create_ = false;
  bool was_up_ = false;
  bool made_way_ = false;
  std::uint16_t attempts_ = 0;
  std::uint32_t failed_ = 0;
  std::uint32_t reconnects_ = 0;
  Duration delay_;
  Duration timeout_;
  std::mt19937_64 random_;
  PathStats stats_;
  std::string local_address_;
  std::string peer_address_;
  std::string last_error_;
};

}  // namespace rnbd::rtrs
