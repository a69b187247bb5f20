// SPDX-License-Identifier: Apache-2.0
// One life of a path of a client's session: one address pair, one connection a queue. Brings the
// connections up one after the other, learns where the server's chunks lie, and takes everything
// down again, in that one order. Control thread; a PathKeeper owns it, and makes a new one for each
// attempt.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/fabric.h"
#include "transport/rtrs/client_connection.h"
#include "transport/rtrs/heartbeat.h"
#include "transport/rtrs/session_core.h"

namespace rnbd::rtrs {

/// In life order. A path only ever moves forward; what may follow what: kClientMoves.
enum class PathState : std::uint8_t {
  Connecting,  ///< connections come up, 0 first
  Info,        ///< all are up; INFO_REQ is on its way
  Connected,   ///< requests may use it
  Closing,     ///< ended; workers let go of its connections
  Closed,      ///< no access to memory is possible any more
};

struct PathSettings {
  transport::Address source;
  transport::Address destination;
  std::string session_name;
  Uuid session_uuid{};
  Uuid path_uuid{};
  std::uint16_t attempt = 1;  ///< of this path, counted from 1
  bool may_create_session = true;
  HeartbeatTiming heartbeat;
  Duration connect_timeout = limits::kConnectTimeout;  ///< of each connection
};

/// Told on the control thread.
class PathEvents {
 public:
  virtual ~PathEvents() = default;
  /// Connection 0 is up: what the server offers. The answer is the memory that requests will use,
  /// or why the path cannot be used.
  virtual Result<SessionCore*> on_path_parameters(const ServerParameters& parameters) = 0;
  virtual void on_path_connected() = 0;
  /// As ServerSession::raise_generation() has made it.
  virtual void on_path_generation(std::uint32_t generation) = 0;
  /// It failed, or was closed by close(). No event follows before on_path_closed.
  virtual void on_path_lost(const Error& error) = 0;
  /// All its connections are closed. The path may be destroyed.
  virtual void on_path_closed() = 0;
};

class ClientPath final : public ConnectionEvents, public HeartbeatPath {
 public:
  /// `workers`: one for each connection; the first for connection 0.
  ClientPath(transport::Fabric& fabric, ControlContext& control,
             std::vector<WorkerContext*> workers, PathSettings settings, PathStats& stats,
             PathEvents& events);
  ~ClientPath() override;

  void start();

  /// Ends the path; on_path_lost (once) and on_path_closed follow. May be called in any state.
  void close(const Error& why);

  [[nodiscard]] PathState state() const { return state_; }
  [[nodiscard]] bool reached() const { return view_.parameters.queue_depth > 0; }  ///< its server
  /// The server ended it between INFO_REQ and INFO_RSP: how it refuses a session's name.
  [[nodiscard]] bool lost_in_info() const { return lost_in_info_; }
  [[nodiscard]] ClientConnection& connection(std::uint16_t cid) { return connections_[cid]->data; }
  [[nodiscard]] const ServerParameters& parameters() const { return view_.parameters; }
  [[nodiscard]] std::string local_address() const { return local_address_; }
  [[nodiscard]] std::string peer_address() const { return peer_address_; }

 private:
  /// A connection and the fabric's events about it.
  struct Member final : transport::EndpointEvents {
    Member(ClientPath& owner, std::uint16_t cid, WorkerContext& worker);
    void on_resolved() override { path.on_resolved(*this); }
    void on_established(std::span<const std::byte> private_data) override {
      path.on_established(*this, private_data);
    }
    void on_rejected(std::span<const std::byte> private_data) override {
      path.close(parse_reject(private_data));
    }
    void on_failed(const Error& error) override { path.close(error); }
    void on_disconnected(const std::string& reason) override;

    ClientPath& path;
    ClientConnection data;
  };

  void move_to(PathState next);
  void connect_next();
  void on_resolved(Member& member);
  void on_established(Member& member, std::span<const std::byte> private_data);
  Status prepare(Member& member);
  Status learn(const ServerParameters& parameters);
  void request_info();
  void detach_all();
  void on_member_detached();
  void finish_closing();

  void on_connection_failed(std::uint16_t cid, const Error& error) override;
  void on_info(std::vector<std::byte> message) override;
  void on_server_generation() override;

  [[nodiscard]] std::uint64_t arrivals() const override;
  void on_alive() override { view_.beats.fetch_add(1, std::memory_order_relaxed); }
  void send_heartbeat() override;
  void on_heartbeat_lost() override;

  transport::Fabric& fabric_;
  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  PathSettings settings_;
  PathEvents& events_;

  PathState state_ = PathState::Connecting;
  bool lost_in_info_ = false;
  PathView view_;
  std::string local_address_;
  std::string peer_address_;
  std::unique_ptr<transport::Region> buffers_;
  std::vector<std::unique_ptr<Member>> connections_;
  std::unique_ptr<ControlContext::Timer> deadline_;
  std::unique_ptr<Heartbeat> heartbeat_;  ///< worker 0's from on_info to detach_all
  std::size_t detaching_ = 0;
};

}  // namespace rnbd::rtrs
