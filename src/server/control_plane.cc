// SPDX-License-Identifier: Apache-2.0
#include "server/control_plane.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "common/control/verbs.h"
#include "common/log.h"
#include "common/rnbd_names.h"
#include "server/state_names.h"

namespace rnbd::server {
namespace {

/// Growing a volume should be noticed before somebody wonders; it costs an ioctl for each.
constexpr std::chrono::seconds kLookAtSizes{1};

std::vector<WorkerContext*> contexts(const std::vector<StoreWorker>& workers) {
  std::vector<WorkerContext*> result;
  result.reserve(workers.size());
  for (const StoreWorker& worker : workers) result.push_back(worker.worker);
  return result;
}

std::string state_of(const Export& entry, const Drain& drain) {
  const bool draining = entry.state == ExportState::Open && drain.covers(entry.session_name);
  return draining ? "draining" : std::string(state_name(entry.state));
}

/// What only `show` and scripts want to know of a device.
void add_details(const Export& entry, control::Json& device) {
  const auto open = std::chrono::system_clock::now() - entry.since;
  device["device_id"] = entry.device_id;
  device["named"] = entry.named;
  device["open_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(open).count();
  if (!entry.backend) return;
  const DiskLimits& limits = entry.backend->limits();
  device["logical_block_bytes"] = limits.logical_block_size;
  device["physical_block_bytes"] = limits.physical_block_size;
  device["can_discard"] = limits.max_discard_sectors != 0;
  device["can_write_zeroes"] = limits.max_write_zeroes_sectors != 0;
}

/// Of all devices of a session alike.
control::Json list_paths(const rtrs::ServerSession& session) {
  control::Json paths = control::Json::array();
  for (const auto& path : session.paths()) {
    paths.push_back({{"peer_address", path->peer_address()},
                     {"local_address", path->local_address()},
                     {"device", path->device_name()},
                     {"state", state_name(*path)},
                     {"in_flight", path->in_flight()}});
  }
  return paths;
}

/// Where the client is connected from.
std::string client_addresses(const control::Json& paths) {
  std::string addresses;
  for (const control::Json& path : paths) {
    if (path["state"] != "connected") continue;
    if (!addresses.empty()) addresses += ',';
    addresses += path["peer_address"].get<std::string>();
  }
  return addresses;
}

}  // namespace

ControlPlane::ControlPlane(ControlContext& control, std::vector<StoreWorker> workers,
                           rtrs::AcceptorSettings settings, SearchPath search_path,
                           Duration slow_io)
    : control_(control),
      workers_(std::move(workers)),
      events_(control, [this] { return snapshot(); }),
      exports_(std::move(search_path),
               [this](const Export& entry, ExportState state) { tell_device(entry, state); }),
      slow_io_(slow_io),
      acceptor_(control, contexts(workers_), settings, *this) {
  look_at_sizes();
}

void ControlPlane::serve(control::Commands& commands) {
  serve_admin(commands);
  commands.handle(control::kListVerb,
                  [this](const control::Json&, control::Reply reply) { reply(list()); });
  commands.handle(control::kSessionsVerb,
                  [this](const control::Json&, control::Reply reply) { reply(sessions()); });
  commands.handle(control::kSessionVerb, [this](const control::Json& args, control::Reply reply) {
    session(args, std::move(reply));
  });
  commands.handle(control::kStatsVerb,
                  [this](const control::Json&, control::Reply reply) { stats(std::move(reply)); });
  commands.handle(control::kResetVerb, [this](const control::Json& args, control::Reply reply) {
    reset(args, std::move(reply));
  });
  events_.serve(commands);
  commands.handle(control::kRevalidateVerb,
                  [this](const control::Json& args, control::Reply reply) {
                    revalidate(args, std::move(reply));
                  });
}

Status ControlPlane::listen(transport::Fabric& fabric, std::uint16_t port) {
  auto listener = fabric.listen({.text = "", .port = port}, acceptor_);
  if (!listener) return fail(listener.error());
  listener_ = std::move(*listener);
  return {};
}

void ControlPlane::stop(Executor::Task done) {
  next_look_.reset();
  listener_.reset();
  acceptor_.close(std::move(done));
}

Result<rtrs::RequestHandler*> ControlPlane::on_session_named(rtrs::ServerSession& session) {
  if (!exports_.drain().may_return(session.name())) return being_drained();
  peers_.push_back(std::make_unique<SessionPeer>(++sessions_named_, session, workers_, control_,
                                                 exports_, slow_io_));
  const rtrs::ServerPath& path = *session.paths().front();
  const log::About about(session.name());
  log::info("session {} of {} is up on {}, {} MiB pinned", session.name(), path.peer_address(),
            path.device_name(), session.chunks().memory().size() >> 20);
  tell_session(session, "up");
  return &peers_.back()->handler();
}

void ControlPlane::on_session_closed(rtrs::ServerSession& session, Executor::Task done) {
  const auto peer =
      std::ranges::find_if(peers_, [&](const auto& one) { return &one->session() == &session; });
  (*peer)->stop([this, one = peer->get(), done = std::move(done)]() mutable {
    const log::About about(one->session().name());
    log::info("session {} is gone", one->session().name());
    tell_session(one->session(), "gone");
    std::erase_if(peers_, [one](const auto& other) { return other.get() == one; });
    done();
  });
}

void ControlPlane::on_path_changed(const rtrs::ServerSession& session,
                                   const rtrs::ServerPath& path) {
  if (session.name().empty()) return;
  const bool connected = path.state() == rtrs::ServerPathState::Connected;
  control::Json event = {{"session", session.name()},
                         {"peer_address", path.peer_address()},
                         {"local_address", path.local_address()},
                         {"state", connected ? "connected" : "lost"}};
  if (!connected) event["reason"] = path.end_reason();
  events_.add("path", event);
}

void ControlPlane::tell_session(const rtrs::ServerSession& session, const char* state) {
  events_.add("session", {{"session", session.name()}, {"state", state}});
}

void ControlPlane::tell_device(const Export& entry, ExportState state) {
  events_.add("device", {{"device", entry.device_path},
                         {"session", entry.session_name},
                         {"mapping_path", entry.mapping_path},
                         {"state", state_name(state)},
                         {"size_bytes", entry.size_bytes}});
}

control::Json ControlPlane::snapshot() const {
  control::Json now = list();
  now["sessions"] = sessions().at("sessions");
  return now;
}

SessionPeer* ControlPlane::find_peer(std::uint64_t id) const {
  const auto peer = std::ranges::find_if(peers_, [id](const auto& one) { return one->id() == id; });
  return peer == peers_.end() ? nullptr : peer->get();
}

void ControlPlane::look_at_sizes() {
  if (const auto resized = exports_.revalidate()) announce(*resized);
  next_look_ = control_.call_after(kLookAtSizes, [this] { look_at_sizes(); });
}

void ControlPlane::announce(const std::vector<Exports::Resized>& resized) {
  for (const auto& [entry, was_bytes] : resized) {
    const log::About about(entry->session_name, entry->device_path);
    log::info("{} has {} bytes now, it had {} (session {})", entry->device_path, entry->size_bytes,
              was_bytes, entry->session_name);
    tell_device(*entry, entry->state);
    find_peer(entry->session)->resize(*entry);
  }
}

control::Json ControlPlane::sessions() const {
  control::Json entries = control::Json::array();
  for (const auto& peer : peers_) {
    const rtrs::ServerSession& session = peer->session();
    control::Json paths = list_paths(session);
    control::Json entry = control::to_json(control::SessionEntry{
        .session = session.name(),
        .client = client_addresses(paths),
        .devices = open_devices(*peer),
        .pinned_bytes = peer->session().chunks().memory().size(),
        .state = exports_.drain().covers(session.name()) ? "draining" : "open"});
    entry["paths"] = std::move(paths);
    entries.push_back(std::move(entry));
  }
  return control::sessions_result(std::move(entries));
}

/// A client of ours, or the kernel's, comes back as soon as it may.
void ControlPlane::session(const control::Json& args, control::Reply reply) {
  const auto wanted = control::read_session_args(args);
  if (!wanted) return reply(fail(wanted.error()));
  const auto peer = std::ranges::find_if(
      peers_, [&](const auto& one) { return one->session().name() == wanted->session; });
  if (peer == peers_.end()) {
    return reply(fail(ENOENT, fmt::format("there is no session {}", wanted->session)));
  }
  if (!wanted->device.empty()) return close_device(**peer, wanted->device, std::move(reply));
  const log::About about(wanted->session);
  log::info("session {} is closed by the administrator", wanted->session);
  (*peer)->session().close("closed by the administrator");
  reply(control::Json::object());
}

void ControlPlane::revalidate(const control::Json& args, control::Reply reply) {
  const auto device = control::read_revalidate_args(args);
  if (!device) return reply(fail(device.error()));
  const auto resized = exports_.revalidate(*device);
  if (!resized) return reply(fail(resized.error()));
  announce(*resized);
  control::Json changed = control::Json::array();
  for (const auto& [entry, was_bytes] : *resized) {
    changed.push_back(control::to_json(control::ResizedEntry{.device = entry->device_path,
                                                             .session = entry->session_name,
                                                             .was_bytes = was_bytes,
                                                             .size_bytes = entry->size_bytes}));
  }
  reply(control::list_result(std::move(changed)));
}

control::Json ControlPlane::list() const {
  control::Json devices = control::Json::array();
  for (const Export* entry : exports_.list()) {
    SessionPeer* const peer = find_peer(entry->session);
    control::Json paths = peer == nullptr ? control::Json::array() : list_paths(peer->session());
    control::Json device = control::to_json(
        control::DeviceEntry{.device = entry->device_path,
                             .session = entry->session_name,
                             .mapping_path = entry->mapping_path,
                             .state = state_of(*entry, exports_.drain()),
                             .access_mode = std::string(wire::name_of(entry->access)),
                             .io_mode = std::string(wire::name_of(entry->io_mode)),
                             .size_bytes = entry->size_bytes,
                             .client = client_addresses(paths)});
    add_details(*entry, device);
    device["paths"] = std::move(paths);
    devices.push_back(std::move(device));
  }
  return control::list_result(std::move(devices));
}

}  // namespace rnbd::server
