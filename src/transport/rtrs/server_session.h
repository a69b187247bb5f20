// SPDX-License-Identifier: Apache-2.0
// One client's session, at the server: its chunks, its paths, and the layer that runs its requests.
// Lives from the first connection of its first path until the last path is closed and no request of
// it runs any more. Control thread; the acceptor owns it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/rtrs/server_path.h"

namespace rnbd::rtrs {

class ServerSession;

/// The layer above: what a server does with sessions. Control thread.
class ServerSessionEvents {
 public:
  virtual ~ServerSessionEvents() = default;
  /// The session has its name, and may be used by other sessions' owners to tell it apart. The
  /// handler stays valid until on_session_closed has called its `done`. Errors refuse the path.
  virtual Result<RequestHandler*> on_session_named(ServerSession& session) = 0;
  /// No path is left and no request runs. Call `done` once nothing refers to the session any more.
  virtual void on_session_closed(ServerSession& session, Executor::Task done) = 0;
  /// It is gone; told last, to the owner.
  virtual void on_session_ended(ServerSession& session) = 0;
};

struct ServerSessionSettings {
  Uuid uuid{};
  ServerParameters parameters;
  std::size_t first_worker = 0;
  HeartbeatTiming heartbeat;
};

class ServerSession final : public ServerPathEvents {
 public:
  /// Errors: ENOMEM.
  static Result<std::unique_ptr<ServerSession>> create(ControlContext& control,
                                                       std::vector<WorkerContext*> workers,
                                                       ServerSessionSettings settings,
                                                       ServerSessionEvents& events);

  /// As ServerPath::add, on the path that the request names.
  Status add(const ConnectRequest& request, std::unique_ptr<transport::Endpoint>& endpoint);

  /// Ends all paths; on_session_closed and on_session_ended follow.
  void close(const std::string& why);

  [[nodiscard]] const std::string& name() const { return name_; }  ///< empty until INFO_REQ
  [[nodiscard]] const Uuid& uuid() const { return settings_.uuid; }
  [[nodiscard]] ChunkTable& chunks() { return *chunks_; }
  [[nodiscard]] const ServerParameters& parameters() const { return settings_.parameters; }
  [[nodiscard]] const std::vector<std::unique_ptr<ServerPath>>& paths() const { return paths_; }

 private:
  ServerSession(ControlContext& control, std::vector<WorkerContext*> workers,
                ServerSessionSettings settings, std::unique_ptr<ChunkTable> chunks,
                ServerSessionEvents& events)
      : control_(control),
        workers_(std::move(workers)),
        settings_(settings),
        chunks_(std::move(chunks)),
        events_(events) {}

  Result<RequestHandler*> on_path_named(const std::string& name) override;
  void on_server_path_closed(const Uuid& uuid) override;
  Result<ServerPath*> find_or_add_path(const ConnectRequest& request,
                                       const transport::Endpoint& endpoint);
  void end();

  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  ServerSessionSettings settings_;
  std::unique_ptr<ChunkTable> chunks_;
  ServerSessionEvents& events_;
  std::string name_;
  RequestHandler* handler_ = nullptr;
  std::vector<std::unique_ptr<ServerPath>> paths_;
  bool ending_ = false;
};

}  // namespace rnbd::rtrs
