// SPDX-License-Identifier: Apache-2.0
// One client's session, at the server: its chunks, its paths, and the layer that runs its requests.
// Lives from the first connection of its first path until the last path is closed and no request of
// it runs any more. Control thread; the acceptor owns it.
//
// A request for connection 0 of a path that is alive says that its client has given the path's life
// up. It waits until that life is over and nothing of it can arrive any more, and is looked at
// then: so its answer, whatever it is, tells the client that it may send elsewhere what the old
// life has not answered. A client may ask over another path's addresses too; the answer is EEXIST
// then, since that path has them.
#pragma once

#include <atomic>
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
  /// May a client at `peer` have a path more, with so many connections? Errors refuse it.
  virtual Status on_path_asked(const std::string& peer, std::uint32_t connections) {
    static_cast<void>(peer);
    static_cast<void>(connections);
    return {};
  }
  /// A path of it is connected now, or no longer.
  virtual void on_path_changed(const ServerSession& session, const ServerPath& path) {
    static_cast<void>(session);
    static_cast<void>(path);
  }
  /// No path is left and no request runs. Call `done` once nothing refers to the session any more.
  virtual void on_session_closed(ServerSession& session, Executor::Task done) = 0;
  /// It is gone; told last, to the owner.
  virtual void on_session_ended(ServerSession& session) = 0;
};

struct ServerSessionSettings {
  Uuid uuid{};
  std::string founder;  ///< the address that its first request to connect came from
  ServerParameters parameters;
  std::size_t first_worker = 0;
  HeartbeatTiming heartbeat;
};

class ServerSession final : public ServerPathEvents {
 public:
  /// `memory`: of an earlier life of it, or nothing. Errors: ENOMEM.
  static Result<std::unique_ptr<ServerSession>> create(ControlContext& control,
                                                       std::vector<WorkerContext*> workers,
                                                       ServerSessionSettings settings,
                                                       MemoryBlock memory,
                                                       ServerSessionEvents& events);

  /// As ServerPath::add, on the path that the request names; or keeps `endpoint` until that path's
  /// present life is over.
  Status add(const ConnectRequest& request, std::unique_ptr<transport::Endpoint>& endpoint);

  /// Its client will be back when it has ended: it had something open.
  void expect_return() { returns_ = true; }
  [[nodiscard]] bool returns() const { return returns_; }

  /// Its client has got what it came for. One that comes back and is lost before that is awaited as
  /// it was before.
  void mark_served() { served_ = true; }
  [[nodiscard]] bool served() const { return served_; }

  /// Tells the client that what it was told about devices may be different now: heartbeats, and the
  /// answers to them, carry a number, 0 in the beginning, in bits that the kernel's modules leave 0
  /// and do not look at.
  void raise_generation();

  /// Ends all paths; on_session_closed and on_session_ended follow.
  void close(const std::string& why);

  [[nodiscard]] const std::string& name() const { return name_; }  ///< empty until INFO_REQ
  [[nodiscard]] const Uuid& uuid() const { return settings_.uuid; }
  [[nodiscard]] const std::string& founder() const { return settings_.founder; }
  [[nodiscard]] ChunkTable& chunks() { return *chunks_; }
  [[nodiscard]] const ServerParameters& parameters() const { return settings_.parameters; }
  [[nodiscard]] const std::vector<std::unique_ptr<ServerPath>>& paths() const { return paths_; }

 private:
  ServerSession(ControlContext& control, std::vector<WorkerContext*> workers,
                ServerSessionSettings settings, std::unique_ptr<ChunkTable> chunks,
                ServerSessionEvents& events)
      : control_(control),
        workers_(std::move(workers)),
        settings_(std::move(settings)),
        chunks_(std::move(chunks)),
        events_(events) {}

  Result<RequestHandler*> on_path_named(const std::string& name) override;
  void on_server_path_changed(const ServerPath& path) override {
    events_.on_path_changed(*this, path);
  }
  void on_server_path_draining(const Uuid& uuid) override;
  void on_server_path_closed(ServerPath& path) override;
  [[nodiscard]] ServerPath* find_path(const Uuid& uuid) const;
  [[nodiscard]] bool is_from_client(const transport::Endpoint& endpoint) const;
  Result<ServerPath*> find_or_add_path(const ConnectRequest& request,
                                       const transport::Endpoint& endpoint);
  Status begin_new_life(ServerPath& path, const ConnectRequest& request,
                        std::unique_ptr<transport::Endpoint>& endpoint);
  void admit_waiting(const Uuid& uuid);
  void refuse_waiting(const Error& why);
  void end();

  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  ServerSessionSettings settings_;
  std::unique_ptr<ChunkTable> chunks_;
  ServerSessionEvents& events_;
  std::string name_;
  RequestHandler* handler_ = nullptr;
  std::vector<std::unique_ptr<ServerPath>> paths_;  ///< those that are over included, until closed
  bool ending_ = false;
  bool returns_ = false;
  bool served_ = false;
  std::atomic<std::uint32_t> generation_ = 0;  ///< written here, read by workers

  struct Waiting {
    ConnectRequest request;
    std::unique_ptr<transport::Endpoint> endpoint;
  };
  std::vector<Waiting> waiting_;  ///< for the end of a path's life; one a path at most
};

}  // namespace rnbd::rtrs
