// SPDX-License-Identifier: Apache-2.0
// The server between its parts: takes clients in, gives each session its peer, and tells what is
// open. Control thread; the daemon owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/control/admin_verbs.h"
#include "common/control/event_log.h"
#include "common/control/server.h"
#include "common/control/state_file.h"
#include "common/control/stats_reset.h"
#include "common/control_context.h"
#include "server/exports.h"
#include "server/metrics.h"
#include "server/session_peer.h"
#include "transport/fabric.h"
#include "transport/rtrs/server_acceptor.h"

namespace rnbd::server {

class ControlPlane final : private rtrs::ServerSessionEvents {
 public:
  /// Requests that take `slow_io` or longer are logged.
  ControlPlane(ControlContext& control, std::vector<StoreWorker> workers,
               rtrs::AcceptorSettings settings, SearchPath search_path,
               Duration slow_io = Duration::max());

  /// Takes clients in. Errors: those of Fabric::listen.
  Status listen(transport::Fabric& fabric, std::uint16_t port);

  /// Disconnects all clients; `done` once nothing runs on any worker.
  void stop(Executor::Task done);

  /// Of sessions to come.
  void set_heartbeat(const rtrs::HeartbeatTiming& heartbeat) { acceptor_.set_heartbeat(heartbeat); }

  /// Of what comes from now on.
  void set_limits(const rtrs::ClientLimits& limits) { acceptor_.set_limits(limits); }

  [[nodiscard]] Exports& exports() { return exports_; }

  /// Takes up the exports that were added before, and keeps there those that will be. `state`
  /// outlives the control plane. Before listen(); blocks.
  void remember_in(control::StateFile& state);

  /// What commands ask for.
  void serve(control::Commands& commands);

  /// What `rnbd-server list` prints.
  [[nodiscard]] control::Json list() const;

  /// What there is to tell, for metrics.
  void observe(std::move_only_function<void(Observation)> done);

 private:
  void revalidate(const control::Json& args, control::Reply reply);
  [[nodiscard]] control::Json sessions() const;
  void session(const control::Json& args, control::Reply reply);
  void stats(control::Reply reply);
  void reset(const control::Json& args, control::Reply reply);
  [[nodiscard]] control::Json snapshot() const;
  void tell_device(const Export& entry, ExportState state);
  void tell_session(const rtrs::ServerSession& session, const char* state);
  using Counted = std::move_only_function<void(std::vector<control::DeviceStats>)>;
  void count(Counted done);
  [[nodiscard]] std::uint64_t open_devices(const SessionPeer& peer) const;

  void serve_admin(control::Commands& commands);
  [[nodiscard]] control::Json list_named();
  void change_export(const control::Json& args, control::Reply reply);
  void begin_export_change();
  control::Reply end_export_change();
  void add_export(const control::ExportArgs& wanted);
  [[nodiscard]] Result<NamedExports::Entry> export_to_add(const control::ExportArgs& wanted);
  void tell_added(const NamedExport& disk);
  void remove_export(const control::ExportArgs& wanted);
  [[nodiscard]] Status may_remove(const control::ExportArgs& wanted);
  void close_removed(const NamedExports::Entry& entry);
  void save_exports(std::move_only_function<void(const Status&)> done);
  [[nodiscard]] std::vector<const Export*> opened_as(std::string_view name) const;
  void force_close(const std::vector<const Export*>& devices, Executor::Task done);
  void close_device(SessionPeer& peer, const std::string& device, control::Reply reply);
  void drain(const control::Json& args, control::Reply reply);
  [[nodiscard]] bool knows_session(const std::string& name);
  [[nodiscard]] std::vector<Drain::Device> open_devices() const;
  [[nodiscard]] control::DrainResult left_to_drain(const std::string& session) const;

  void look_at_sizes();
  void announce(const std::vector<Exports::Resized>& resized);
  Result<rtrs::RequestHandler*> on_session_named(rtrs::ServerSession& session) override;
  void on_path_changed(const rtrs::ServerSession& session, const rtrs::ServerPath& path) override;
  void on_session_closed(rtrs::ServerSession& session, Executor::Task done) override;
  void on_session_ended(rtrs::ServerSession&) override {}
  [[nodiscard]] SessionPeer* find_peer(std::uint64_t id) const;

  ControlContext& control_;
  std::vector<StoreWorker> workers_;
  control::StatsMarks marks_;
  control::EventLog events_;
  Exports exports_;
  const Duration slow_io_;
  rtrs::ServerAcceptor acceptor_;
  std::unique_ptr<transport::Listener> listener_;
  std::vector<std::unique_ptr<SessionPeer>> peers_;
  std::uint64_t sessions_named_ = 0;
  control::StateFile* state_ = nullptr;
  struct ExportChange {
    control::ExportArgs wanted;
    control::Reply reply;
  };
  std::deque<ExportChange> export_changes_;           ///< the first one is being made
  std::unique_ptr<ControlContext::Timer> next_look_;  ///< at the disks' sizes
};

}  // namespace rnbd::server
