// SPDX-License-Identifier: Apache-2.0
// A client's session: everything between this host and one server under one name. Keeps its paths
// up, gives each worker its queue, and tells the layer above when the first path comes and the last
// one goes. Control thread; the layer above owns it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/fabric.h"
#include "transport/rtrs/path_keeper.h"
#include "transport/rtrs/service_queue.h"
#include "transport/rtrs/session_queue.h"

namespace rnbd::rtrs {

/// What a session needs to know to go on where one in another process ended.
struct ResumedSession {
  ServerParameters parameters;         ///< as the server had them
  std::vector<PermitId> held_permits;  ///< their owners are made before anybody else acquires
};

struct SessionSettings {
  std::string name;
  std::vector<PathSpec> paths;  ///< one at least; further ones may come later
  Uuid session_uuid{};          ///< random
  HeartbeatTiming heartbeat;
  PathPolicy policy = PathPolicy::MinInflight;
  int max_reconnect_attempts = -1;  ///< in a row; -1: no end
  std::uint64_t seed = 0;           ///< of what is left to chance
  /// Where the buffers lie: memory of its own, or what a process before this one used.
  SessionCore::MakeMemory make_memory = MemoryBlock::map;
  /// As if it had been up and lost its paths just now: queues are there after start(), and the
  /// server is tried for ever.
  std::optional<ResumedSession> resumed;
};

/// Told on the control thread.
class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  /// A path is up and service messages pass; requests do after resume(). Called again each time the
  /// session was lost and has come back.
  virtual void on_session_up() = 0;
  /// The last path was lost. They are tried again if the session was up before; else it stays down
  /// and close() is all that can be done with it.
  virtual void on_session_down(const Error& error, bool will_retry) = 0;
  virtual void on_path_state(const PathKeeper& path) { static_cast<void>(path); }
  /// Something that the server has told about its devices may be different now.
  virtual void on_server_changed() {}
  /// A path was added or has ended, or the policy changed. Called before a path that is added can
  /// have sent anything.
  virtual void on_settings_changed() {}
};

class ClientSession final : private PathOwner {
 public:
  /// `workers`: one for each queue; the first also serves connection 0.
  ClientSession(transport::Fabric& fabric, ControlContext& control,
                std::vector<WorkerContext*> workers, SessionSettings settings,
                SessionEvents& events);
  ~ClientSession() override;

  /// Brings the first path up that can be, and then the others. Errors, of a resumed session only:
  /// those of settings.make_memory.
  Status start();

  /// Takes everything down; `done` is called when nothing of the session is left on any worker. No
  /// event follows, messages fail with ENOTCONN. Every request has been abandoned before.
  void close(Executor::Task done);

  /// Lets the queues' requests out, those first that wait since the session was lost.
  void resume();

  /// While no path is connected it fails with ENOTCONN.
  void send(ServiceMessage message);

  /// As PathKeeper::on_link_up.
  void on_link_up();

  /// Could it be added? Errors: EEXIST, ENOSPC, ENOTCONN (the session has never been up).
  [[nodiscard]] Status check_new_path(const PathSpec& spec) const;

  /// One path more, which could be added. `done` once it is connected, or with why it is not, and
  /// it is gone again.
  void add_path(PathSpec spec, PathKeeper::Done done);

  /// `done` once nothing is left of it but, if it was the last one, what waits for another.
  void remove_path(PathKeeper& path, Executor::Task done);

  void set_policy(PathPolicy policy);
  /// In a row, for each path; -1: no end.
  void set_max_reconnect_attempts(int attempts);
  [[nodiscard]] PathPolicy policy() const { return settings_.policy; }

  [[nodiscard]] const SessionSettings& settings() const { return settings_; }
  [[nodiscard]] bool connected() const { return first_connected() != nullptr; }
  [[nodiscard]] std::string local_address() const;  ///< of a connected path; empty if there is none
  [[nodiscard]] std::string peer_address() const;
  [[nodiscard]] const std::string& last_error() const { return last_error_; }
  [[nodiscard]] std::uint32_t reconnects() const { return reconnects_; }  ///< of the session

  /// In the order in which they were asked for.
  [[nodiscard]] const std::vector<std::unique_ptr<PathKeeper>>& paths() const { return paths_; }
  [[nodiscard]] std::uint32_t in_flight(const PathKeeper& path) const override;
  /// Is another path than this one connected, and to be used?
  [[nodiscard]] bool can_do_without(const PathKeeper& path) const;
  /// Would the session have no path without this one? One that is still being added may not come.
  [[nodiscard]] bool is_only(const PathKeeper& path) const;

  // Valid once the session has been up.
  [[nodiscard]] std::size_t queues() const { return queues_.size() - 1; }
  [[nodiscard]] SessionQueue& queue(std::size_t index) { return *queues_[index + 1]; }
  [[nodiscard]] std::uint32_t permits_in_use() const { return core_->permits.in_use(); }
  [[nodiscard]] std::uint32_t queue_depth() const { return core_->depth(); }
  [[nodiscard]] std::size_t memory_bytes() const { return core_ ? core_->memory().size() : 0; }

 private:
  std::optional<Route> live_route(const PathKeeper& path) const override;
  Result<SessionCore*> on_parameters(const ServerParameters& parameters) override;
  void on_up(PathKeeper& path) override;
  bool on_lost(PathKeeper& path, const Error& error, bool was_up) override;
  void let_go(PathKeeper& path, Executor::Task done) override;
  void send_again(PathKeeper& path) override;
  void stop_using(PathKeeper& path, Executor::Task done) override;
  void on_state(const PathKeeper& path) override;
  void on_server_generation(std::uint32_t generation) override;
  void on_ended(PathKeeper& path) override;

  Status create_core(const ServerParameters& parameters);
  void take_over_permits();
  PathKeeper& add(PathSpec spec);
  [[nodiscard]] PathKeeper* first_connected() const;
  bool on_first_attempt_failed(PathKeeper& path, const Error& error);
  void on_last_path_lost(const Error& error);
  void connect_queues(PathKeeper& path);
  void open_gates();
  void finish_closing();
  WorkerContext& worker_of(std::size_t queue) { return *workers_[queue == 0 ? 0 : queue - 1]; }
  /// Runs `step` for each queue on its worker, then `done` on the control thread.
  void on_each_queue(const std::function<void(std::size_t, SessionQueue&)>& step,
                     Executor::Task done);

  transport::Fabric& fabric_;
  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  SessionSettings settings_;
  SessionEvents& events_;

  std::unique_ptr<SessionCore> core_;
  std::vector<std::unique_ptr<SessionQueue>> queues_;  ///< [0] carries service messages
  std::unique_ptr<ServiceQueue> service_;
  std::vector<std::unique_ptr<PathKeeper>> paths_;
  /// Paths of a process before this one whose last life the server may still hold. As long as there
  /// are any, what it sent there could land behind what we send: the gates stay closed.
  std::set<const PathKeeper*> former_;
  bool resuming_ = false;  ///< resume() was called, and the gates wait for former_
  bool was_up_ = false;
  std::uint32_t generation_ = 0;  ///< the server's, as last heard of
  unsigned turned_away_ = 0;      ///< how often, before it was ever up
  std::uint32_t reconnects_ = 0;
  std::string last_error_;
  Executor::Task on_closed_;

  struct Removal {
    const PathKeeper* path = nullptr;
    Executor::Task done;
  };
  std::vector<Removal> removals_;
  std::set<const PathKeeper*> being_added_;
};

}  // namespace rnbd::rtrs
