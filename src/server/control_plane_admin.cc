// SPDX-License-Identifier: Apache-2.0
// ControlPlane, second part: what administrators change while clients are connected. Devices that
// are closed by force, and draining; exports by name are in control_plane_exports.cc.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "common/control/verbs.h"
#include "common/countdown.h"
#include "common/log.h"
#include "server/control_plane.h"

namespace rnbd::server {
void ControlPlane::serve_admin(control::Commands& commands) {
  commands.handle(control::kExportsVerb,
                  [this](const control::Json&, control::Reply reply) { reply(list_named()); });
  commands.handle(control::kExportVerb, [this](const control::Json& args, control::Reply reply) {
    change_export(args, std::move(reply));
  });
  commands.handle(control::kDrainVerb, [this](const control::Json& args, control::Reply reply) {
    drain(args, std::move(reply));
  });
}

void ControlPlane::force_close(const std::vector<const Export*>& devices, Executor::Task done) {
  const Countdown one_done(devices.size() + 1, std::move(done));
  for (const Export* const one : devices) {
    log::info("session {}: {} is closed by the administrator", one->session_name,
              one->mapping_path);
    find_peer(one->session)->force_close(one->device_id, one_done);
  }
  one_done();
}

void ControlPlane::close_device(SessionPeer& peer, const std::string& device,
                                control::Reply reply) {
  auto found = exports_.list();
  std::erase_if(found, [&](const Export* one) {
    const bool called = one->mapping_path == device || one->device_path == device;
    return one->session != peer.id() || !called || one->state != ExportState::Open;
  });
  if (found.empty()) {
    return reply(
        fail(ENOENT, fmt::format("session {} has no {} open", peer.session().name(), device)));
  }
  force_close(found, [reply = std::move(reply)]() mutable { reply(control::Json::object()); });
}

void ControlPlane::drain(const control::Json& args, control::Reply reply) {
  const auto wanted = control::read_drain_args(args);
  if (!wanted) return reply(fail(wanted.error()));
  Drain& drain = exports_.drain();
  if (wanted->look) {
    if (!drain.covers(wanted->session)) {
      return reply(fail(ECANCELED, "somebody has ended it, or the daemon was started anew"));
    }
  } else if (wanted->off) {
    if (Status ended = drain.end(wanted->session); !ended) return reply(fail(ended.error()));
  } else {
    if (!wanted->session.empty() && !knows_session(wanted->session)) {
      return reply(fail(ENOENT, fmt::format("there is no session {}", wanted->session)));
    }
    if (!drain.covers(wanted->session)) {
      log::info("{} drained",
                wanted->session.empty() ? "all sessions are" : wanted->session + " is");
    }
    drain.begin(wanted->session, open_devices());
  }
  acceptor_.refuse_new(drain.all());
  const control::DrainResult left = left_to_drain(wanted->session);
  if (!wanted->off && left.devices == 0 && left.returning == 0) drain.finish(wanted->session);
  reply(control::to_json(left));
}

/// One that is being drained may have ended since.
bool ControlPlane::knows_session(const std::string& name) {
  const bool lives =
      std::ranges::any_of(peers_, [&](const auto& peer) { return peer->session().name() == name; });
  return lives || exports_.drain().covers(name);
}

std::vector<Drain::Device> ControlPlane::open_devices() const {
  std::vector<Drain::Device> open;
  for (const Export* const one : exports_.list()) {
    if (one->state == ExportState::Open) open.emplace_back(one->session_name, one->mapping_path);
  }
  // Of clients that have just been lost, and come back to it.
  for (LostDevices::Device& one : exports_.lost()) {
    open.emplace_back(std::move(one.session), std::move(one.name));
  }
  return open;
}

control::DrainResult ControlPlane::left_to_drain(const std::string& session) const {
  const auto meant = [&](std::string_view name) { return session.empty() || name == session; };
  control::DrainResult left;
  for (const Export* const one : exports_.list()) {
    if (one->state != ExportState::Closed && meant(one->session_name)) ++left.devices;
  }
  for (const std::string& name : acceptor_.awaited()) {
    if (meant(name)) ++left.returning;
  }
  // Of those that are just coming back some have no name yet, others nothing open yet.
  left.returning +=
      acceptor_.sessions().size() - std::min(acceptor_.sessions().size(), peers_.size());
  const Drain& drain = exports_.drain();
  for (const auto& peer : peers_) {
    const std::string& name = peer->session().name();
    const bool comes_back = drain.covers(name) && drain.may_return(name) && !peer->has_served();
    if (meant(name) && comes_back) ++left.returning;
  }
  return left;
}

}  // namespace rnbd::server
