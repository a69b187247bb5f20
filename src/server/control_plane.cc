// SPDX-License-Identifier: Apache-2.0
#include "server/control_plane.h"

#include <algorithm>

#include "common/control/verbs.h"
#include "common/log.h"
#include "common/rnbd_names.h"

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

std::string state_name(ExportState state) {
  switch (state) {
    case ExportState::Open:
      return "open";
    case ExportState::Closing:
    case ExportState::Closed:
      return "closed";
  }
  return "closed";
}

std::string state_name(const rtrs::ServerPath& path) {
  switch (path.state()) {
    case rtrs::ServerPathState::Connecting:
    case rtrs::ServerPathState::Binding:
      return "connecting";
    case rtrs::ServerPathState::Connected:
      return "connected";
    case rtrs::ServerPathState::Closing:
      return "closing";
    case rtrs::ServerPathState::Draining:
    case rtrs::ServerPathState::Closed:
      return "draining";
  }
  return "draining";
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
                           rtrs::AcceptorSettings settings, SearchPath search_path)
    : control_(control),
      workers_(std::move(workers)),
      exports_(std::move(search_path)),
      acceptor_(control, contexts(workers_), settings, *this) {
  look_at_sizes();
}

void ControlPlane::serve(control::Commands& commands) {
  commands.handle(control::kListVerb,
                  [this](const control::Json&, control::Reply reply) { reply(list()); });
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
  peers_.push_back(
      std::make_unique<SessionPeer>(++sessions_named_, session, workers_, control_, exports_));
  const rtrs::ServerPath& path = *session.paths().front();
  log::info("session {} of {} is up on {}, {} MiB pinned", session.name(), path.peer_address(),
            path.device_name(), session.chunks().memory().size() >> 20);
  return &peers_.back()->handler();
}

void ControlPlane::on_session_closed(rtrs::ServerSession& session, Executor::Task done) {
  const auto peer =
      std::ranges::find_if(peers_, [&](const auto& one) { return &one->session() == &session; });
  (*peer)->stop([this, one = peer->get(), done = std::move(done)]() mutable {
    log::info("session {} is gone", one->session().name());
    std::erase_if(peers_, [one](const auto& other) { return other.get() == one; });
    done();
  });
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
    log::info("{} has {} bytes now, it had {} (session {})", entry->device_path, entry->size_bytes,
              was_bytes, entry->session_name);
    find_peer(entry->session)->resize(*entry);
  }
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
                             .state = state_name(entry->state),
                             .access_mode = std::string(wire::name_of(entry->access)),
                             .io_mode = std::string(wire::name_of(entry->io_mode)),
                             .size_bytes = entry->size_bytes,
                             .client = client_addresses(paths)});
    device["paths"] = std::move(paths);
    devices.push_back(std::move(device));
  }
  return control::list_result(std::move(devices));
}

}  // namespace rnbd::server
