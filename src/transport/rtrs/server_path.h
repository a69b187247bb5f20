// SPDX-License-Identifier: Apache-2.0
// One path of a client, at the server: its connections as they come, INFO, heartbeat, and the way
// down. Control thread; the session owns it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/control_context.h"
#include "transport/fabric.h"
#include "transport/rtrs/heartbeat.h"
#include "transport/rtrs/server_connection.h"

namespace rnbd::rtrs {

/// In life order.
enum class ServerPathState : std::uint8_t {
  Connecting,  ///< connections come in, any order
  Binding,     ///< INFO_REQ was accepted; with new_key, every chunk gets its first key
  Connected,
  Closing,   ///< ended; workers let go of its connections
  Draining,  ///< its queue pairs are gone: nothing of it arrives any more; the disk may still be
             ///< busy with its requests
  Closed,
};

class ServerPath;

/// Told on the control thread.
class ServerPathEvents {
 public:
  virtual ~ServerPathEvents() = default;
  /// INFO_REQ came with this name. The answer runs the requests, or says why the path is refused.
  virtual Result<RequestHandler*> on_path_named(const std::string& name) = 0;
  /// It is connected now, or no longer.
  virtual void on_server_path_changed(const ServerPath& path) = 0;
  virtual void on_server_path_draining(const Uuid& uuid) = 0;
  virtual void on_server_path_closed(ServerPath& path) = 0;  ///< it may be destroyed
};

struct ServerPathSettings {
  Uuid uuid{};
  std::uint16_t connections = 0;
  ServerParameters parameters;
  std::size_t first_worker = 0;  ///< spreads sessions with few connections over the workers
  HeartbeatTiming heartbeat;
  const std::atomic<std::uint32_t>* generation = nullptr;  ///< the session's, for heartbeats
};

class ServerPath final : public ConnectionEvents, public HeartbeatPath {
 public:
  ServerPath(ControlContext& control, std::vector<WorkerContext*> workers,
             ServerPathSettings settings, ChunkTable& chunks, ServerPathEvents& events);
  ~ServerPath() override;

  /// Takes in a connection: accepted, or an error to be put into a reject of `endpoint`, which
  /// then was left alone.
  Status add(const ConnectRequest& request, std::unique_ptr<transport::Endpoint>& endpoint);

  void close(const std::string& why);

  /// Sends a heartbeat at once, due or not, if it is connected.
  void tell_generation();

  [[nodiscard]] ServerPathState state() const { return state_; }
  [[nodiscard]] const Uuid& uuid() const { return settings_.uuid; }
  [[nodiscard]] bool empty() const;  ///< no connection has been accepted
  [[nodiscard]] std::uint16_t connections() const { return settings_.connections; }
  [[nodiscard]] std::uint32_t in_flight() const;
  /// This life of the path is over: another one may begin under the same name.
  [[nodiscard]] bool over() const { return state_ >= ServerPathState::Draining; }
  /// Is connection 0 awaited? If not, a request for one begins a new life of the path.
  [[nodiscard]] bool expects_service() const {
    return state_ == ServerPathState::Connecting && members_[0] == nullptr;
  }
  [[nodiscard]] const std::string& local_address() const { return local_address_; }
  [[nodiscard]] const std::string& peer_address() const { return peer_address_; }
  /// Why it ended; empty until then.
  [[nodiscard]] const std::string& end_reason() const { return end_reason_; }
  [[nodiscard]] const std::string& device_name() const { return device_name_; }

 private:
  struct Member final : transport::EndpointEvents {
    Member(ServerPath& owner, std::uint16_t cid, std::size_t worker_index);
    void on_resolved() override {}
    void on_established(std::span<const std::byte>) override {}  // the first message may be sooner
    void on_rejected(std::span<const std::byte>) override {}
    void on_failed(const Error& error) override { path.close(describe(error)); }
    void on_disconnected(const std::string& reason) override { path.close(reason); }

    ServerPath& path;
    ServerConnection data;
  };

  void move_to(ServerPathState next);
  Status admit(const ConnectRequest& request, transport::Endpoint& endpoint) const;
  Status use_device(transport::Endpoint& endpoint);
  Status make_windows(transport::Device& device);
  Status prepare(Member& member);
  void connected();
  [[nodiscard]] std::vector<std::byte> info_response() const;
  void on_let_go();
  void on_idle();

  void on_connection_failed(std::uint16_t cid, const Error& error) override;
  void on_info(std::vector<std::byte> message) override;

  [[nodiscard]] std::uint64_t arrivals() const override;
  void on_alive() override { view_.beats.fetch_add(1, std::memory_order_relaxed); }
  void send_heartbeat() override;
  void on_heartbeat_lost() override;

  [[nodiscard]] WorkerContext& service_worker() { return *workers_[worker_index(0)]; }
  [[nodiscard]] std::size_t worker_index(std::uint16_t cid) const;

  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  ServerPathSettings settings_;
  ServerPathEvents& events_;

  ServerPathState state_ = ServerPathState::Connecting;
  ServerPathView view_;
  std::unique_ptr<transport::Region> region_;
  transport::Device* device_ = nullptr;
  std::vector<std::unique_ptr<Member>> members_;  ///< by cid; null: not there yet
  std::unique_ptr<ControlContext::Timer> half_open_;
  std::size_t holding_ = 0;  ///< workers' parts that have not let go
  std::size_t busy_ = 0;     ///< connections that requests need
  std::string local_address_;
  std::string peer_address_;
  std::string device_name_;
  std::string end_reason_;
};

}  // namespace rnbd::rtrs
