// SPDX-License-Identifier: Apache-2.0
// A client's session: everything between this host and one server under one name. Keeps a path up,
// trying again with growing pauses when it is lost, and gives each worker its queue. Control
// thread; the layer above owns it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/fabric.h"
#include "transport/rtrs/client_path.h"
#include "transport/rtrs/service_queue.h"
#include "transport/rtrs/session_queue.h"

namespace rnbd::rtrs {

struct SessionSettings {
  std::string name;
  transport::Address source;
  transport::Address destination;
  Uuid session_uuid{};  ///< random
  Uuid path_uuid{};     ///< random
  HeartbeatTiming heartbeat;
};

/// Told on the control thread.
class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  /// A path is up and service messages pass; requests do after resume(). Called again each time the
  /// session was lost and has come back.
  virtual void on_session_up() = 0;
  /// The last path was lost. It is tried again if it was up before; else the session stays down and
  /// close() is all that can be done with it.
  virtual void on_session_down(const Error& error, bool will_retry) = 0;
};

class ClientSession final : public PathEvents {
 public:
  /// `workers`: one for each queue; the first also serves connection 0.
  ClientSession(transport::Fabric& fabric, ControlContext& control,
                std::vector<WorkerContext*> workers, SessionSettings settings,
                SessionEvents& events);
  ~ClientSession() override;

  void start();

  /// Takes everything down; `done` is called when nothing of the session is left on any worker. No
  /// event follows. Every request has been abandoned before.
  void close(Executor::Task done);

  /// Lets the queues' requests out, those first that wait since the session was lost.
  void resume();

  void send(ServiceMessage message);

  [[nodiscard]] const SessionSettings& settings() const { return settings_; }
  [[nodiscard]] bool connected() const {
    return path_ != nullptr && path_->state() == PathState::Connected;
  }
  [[nodiscard]] const std::string& local_address() const { return local_address_; }
  [[nodiscard]] const std::string& peer_address() const { return peer_address_; }
  [[nodiscard]] const std::string& last_error() const { return last_error_; }
  [[nodiscard]] std::uint32_t reconnects() const { return reconnects_; }

  // Valid once the session has been up.
  [[nodiscard]] std::size_t queues() const { return queues_.size() - 1; }
  [[nodiscard]] SessionQueue& queue(std::size_t index) { return *queues_[index + 1]; }
  [[nodiscard]] std::uint32_t permits_in_use() const { return core_->permits.in_use(); }
  [[nodiscard]] std::uint32_t queue_depth() const { return core_->depth(); }
  [[nodiscard]] std::size_t memory_bytes() const { return core_ ? core_->memory().size() : 0; }

 private:
  Result<SessionCore*> on_path_parameters(const ServerParameters& parameters) override;
  void on_path_connected() override;
  void on_path_lost(const Error& error) override;
  void on_path_closed() override;

  Status create_core(const ServerParameters& parameters);
  void open_path();
  void on_queues_disconnected();
  void schedule_reconnect();
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
  std::unique_ptr<ClientPath> path_;
  std::unique_ptr<ControlContext::Timer> retry_;
  Duration delay_;
  bool was_up_ = false;
  bool again_ = false;  ///< the path that was lost is tried again
  std::uint16_t attempts_ = 0;
  std::uint32_t reconnects_ = 0;
  std::string local_address_;
  std::string peer_address_;
  std::string last_error_;
  Executor::Task on_closed_;
};

}  // namespace rnbd::rtrs
