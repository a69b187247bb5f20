// SPDX-License-Identifier: Apache-2.0
// The server's front door: looks at every request to connect, finds or makes the session and path
// it belongs to, accepts or rejects. Owns the sessions. Control thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/fabric.h"
#include "transport/rtrs/client_limits.h"
#include "transport/rtrs/refusal_log.h"
#include "transport/rtrs/server_session.h"

namespace rnbd::rtrs {

struct AcceptorSettings {
  ServerParameters parameters;
  ClientLimits limits;
  HeartbeatTiming heartbeat;
};

class ServerAcceptor final : public transport::ListenerEvents, public ServerSessionEvents {
 public:
  ServerAcceptor(ControlContext& control, std::vector<WorkerContext*> workers,
                 AcceptorSettings settings, ServerSessionEvents& events)
      : control_(control),
        workers_(std::move(workers)),
        settings_(settings),
        events_(events),
        refusals_(control) {}
  ~ServerAcceptor() override;

  void on_connect_request(std::unique_ptr<transport::Endpoint> endpoint,
                          std::span<const std::byte> private_data) override;

  /// Of sessions to come.
  void set_heartbeat(const HeartbeatTiming& heartbeat) { settings_.heartbeat = heartbeat; }

  /// For what comes from now on; nobody is disconnected.
  void set_limits(const ClientLimits& limits) { settings_.limits = limits; }

  /// Takes in no sessions but those whose clients are awaited back, with ESHUTDOWN; or all again.
  void refuse_new(bool refuse) { refuses_new_ = refuse; }

  /// Takes nobody in any more, ends all sessions, and calls `done` when the last is gone.
  void close(Executor::Task done);

  [[nodiscard]] const std::vector<std::unique_ptr<ServerSession>>& sessions() const {
    return sessions_;
  }
  /// Names of sessions that were lost with something open, and may come back.
  [[nodiscard]] std::vector<std::string> awaited() const;
  /// Bytes of chunks that wait for sessions to come back.
  [[nodiscard]] std::uint64_t memory_kept() const { return sessions_kept() * session_bytes(); }

 private:
  /// A session whose client was lost while it had something open: its next life is expected, for
  /// limits::kKeepMemory. That has another try, as long, if it is lost before it has been served.
  struct Awaited {
    Uuid session{};
    std::string name;
    /// Its chunks: to have fresh memory populated takes longer than all else in connecting. No
    /// other session gets it: what it would send less of than it says would be somebody else's.
    MemoryBlock memory;
    std::unique_ptr<ControlContext::Timer> end;  ///< none: it is back, and lives
  };

  Status admit(const ConnectRequest& request, std::unique_ptr<transport::Endpoint>& endpoint);
  Result<ServerSession*> find_or_make(const ConnectRequest& request, const std::string& peer);
  Result<ServerSession*> make(const ConnectRequest& request, const std::string& peer);
  [[nodiscard]] Share held_by(const std::string* client) const;
  [[nodiscard]] Status check(const Share& asked, const std::string& client) const;
  [[nodiscard]] std::uint64_t session_bytes() const;
  [[nodiscard]] std::size_t sessions_kept() const;
  [[nodiscard]] Awaited* find_awaited(const Uuid& session);
  void on_lost(ServerSession& session);
  void forget_one();
  void wait_for(Awaited& session);

  Result<RequestHandler*> on_session_named(ServerSession& session) override;
  Status on_path_asked(const std::string& peer, std::uint32_t connections) override {
    return check({.paths = 1, .connections = connections}, peer);
  }
  void on_path_changed(const ServerSession& session, const ServerPath& path) override {
    events_.on_path_changed(session, path);
  }
  void on_session_closed(ServerSession& session, Executor::Task done) override;
  void on_session_ended(ServerSession& session) override;

  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  AcceptorSettings settings_;
  ServerSessionEvents& events_;
  RefusalLog refusals_;
  std::vector<std::unique_ptr<ServerSession>> sessions_;
  std::vector<Awaited> awaited_;
  std::size_t sessions_made_ = 0;
  bool refuses_new_ = false;
  Executor::Task on_closed_;
};

}  // namespace rnbd::rtrs
