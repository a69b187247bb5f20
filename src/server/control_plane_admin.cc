// SPDX-License-Identifier: Apache-2.0
// ControlPlane, second part: what administrators change while clients are connected. Named exports,
// devices that are closed by force, and draining.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/control/verbs.h"
#include "common/countdown.h"
#include "common/log.h"
#include "server/control_plane.h"

namespace rnbd::server {
namespace {

std::string_view origin_name(ExportOrigin origin) {
  switch (origin) {
    case ExportOrigin::Configured:
      return "config";
    case ExportOrigin::Added:
      return "added";
    case ExportOrigin::Temporary:
      return "temporary";
  }
  return "temporary";
}

/// Throws what the JSON library throws.
NamedExport from_json(const control::Json& json) {
  NamedExport made{.name = json.at("name").get<std::string>(),
                   .path = json.at("path").get<std::string>()};
  const auto read_only = parse_export_access(json.at("access").get<std::string>());
  for (const Status& status : {check_export_name(made.name), check_export_path(made.path)}) {
    if (!status) throw std::invalid_argument(status.error().message);
  }
  if (!read_only) throw std::invalid_argument(read_only.error().message);
  made.read_only = *read_only;
  return made;
}

control::Json state_of(const NamedExports& named) {
  control::Json list = control::Json::array();
  for (const NamedExport& one : named.added_for_good()) {
    list.push_back(
        {{"name", one.name}, {"path", one.path}, {"access", access_name(one.read_only)}});
  }
  return {{"exports", std::move(list)}};
}

control::ExportEntry entry_of(const NamedExports::Entry& one) {
  control::ExportEntry entry{.name = one.disk.name,
                             .path = one.disk.path,
                             .access = std::string(access_name(one.disk.read_only)),
                             .origin = std::string(origin_name(one.origin))};
  const auto disk = find_disk(one.disk.path);
  const auto size = disk ? size_of(*disk) : Result<std::uint64_t>(fail(disk.error()));
  if (size) {
    entry.size_bytes = *size;
  } else {
    entry.error = describe(size.error());
  }
  return entry;
}

}  // namespace

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

void ControlPlane::remember_in(control::StateFile& state) {
  state_ = &state;
  std::vector<NamedExport> kept;
  const auto content = state.load([&kept](const control::Json& json) {
    kept.clear();
    for (const control::Json& one : json.at("exports")) kept.push_back(from_json(one));
  });
  if (!content) return log::warn("no exports are remembered: {}", describe(content.error()));
  for (NamedExport& one : kept) {
    if (Status added = exports_.named().add(std::move(one), ExportOrigin::Added); !added) {
      log::warn("an export that was added is not used: {}", added.error().message);
    }
  }
}

void ControlPlane::save_exports(control::Reply reply) {
  if (state_ == nullptr) {
    return reply(fail(EOPNOTSUPP, "there is no state_dir to remember it in"));
  }
  state_->save(state_of(exports_.named()), [reply = std::move(reply)](const Status& saved) mutable {
    if (saved) return reply(control::Json::object());
    reply(fail(saved.error().code,
               fmt::format("done, but not remembered: {}", saved.error().message)));
  });
}

std::vector<const Export*> ControlPlane::opened_as(std::string_view name) const {
  auto all = exports_.list();
  std::erase_if(all, [&](const Export* one) {
    return !one->named || one->mapping_path != name || one->state != ExportState::Open;
  });
  return all;
}

control::Json ControlPlane::list_named() {
  control::Json list = control::Json::array();
  for (const NamedExports::Entry& one : exports_.named().list()) {
    control::ExportEntry entry = entry_of(one);
    for (const Export* const open : opened_as(one.disk.name)) {
      entry.opened_by.push_back(open->session_name);
    }
    list.push_back(control::to_json(entry));
  }
  return control::exports_result(std::move(list));
}

void ControlPlane::change_export(const control::Json& args, control::Reply reply) {
  const auto wanted = control::read_export_args(args);
  if (!wanted) return reply(fail(wanted.error()));
  if (wanted->action == "add") {
    add_export(*wanted, std::move(reply));
  } else {
    remove_export(*wanted, std::move(reply));
  }
}

void ControlPlane::add_export(const control::ExportArgs& wanted, control::Reply reply) {
  const auto read_only = parse_export_access(wanted.access);
  if (!read_only) return reply(fail(read_only.error()));
  for (const Status& good : {check_export_name(wanted.name), check_export_path(wanted.path)}) {
    if (!good) return reply(fail(good.error()));
  }
  // A disk that a configuration names may come later; what is typed now is meant now.
  if (const auto disk = find_disk(wanted.path); !disk) return reply(fail(disk.error()));
  const auto origin = wanted.temporary ? ExportOrigin::Temporary : ExportOrigin::Added;
  if (Status added = exports_.named().add(
          {.name = wanted.name, .path = wanted.path, .read_only = *read_only}, origin);
      !added) {
    return reply(fail(added.error()));
  }
  log::info("{} is exported as {}", wanted.path, wanted.name);
  if (wanted.temporary) return reply(control::Json::object());
  save_exports(std::move(reply));
}

void ControlPlane::remove_export(const control::ExportArgs& wanted, control::Reply reply) {
  const auto open = opened_as(wanted.name);
  const NamedExports::Entry* const known = exports_.named().find(wanted.name);
  const bool added = known != nullptr && known->origin != ExportOrigin::Configured;
  if (added && !open.empty() && !wanted.force) {
    std::vector<std::string_view> sessions;
    sessions.reserve(open.size());
    for (const Export* const one : open) sessions.emplace_back(one->session_name);
    return reply(fail(EBUSY, fmt::format("{} is open: {}\n--force closes it for its clients",
                                         wanted.name, fmt::join(sessions, ", "))));
  }
  const bool kept = added && known->origin == ExportOrigin::Added;
  if (Status removed = exports_.named().remove(wanted.name); !removed) {
    return reply(fail(removed.error()));
  }
  log::info("{} is not exported any more", wanted.name);
  force_close(open, [this, kept, reply = std::move(reply)]() mutable {
    if (kept) return save_exports(std::move(reply));
    reply(control::Json::object());
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
