// SPDX-License-Identifier: Apache-2.0
#include "client/control_plane.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "client/path_control.h"
#include "common/assert.h"
#include "common/control/verbs.h"
#include "common/countdown.h"
#include "common/host_name.h"
#include "common/limits.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

/// How long flushing may take when the daemon stops.
constexpr std::chrono::seconds kStopPatience{20};
constexpr unsigned kMapAttempts = 5;

Error not_mapped(const std::string& node) {
  return {ENOENT, fmt::format("{} is not mapped by this daemon", node)};
}

Error being_replaced() { return {control::kBeingReplaced, "the daemon is being replaced"}; }

/// Why a map has failed may have passed by now.
bool may_work_now(const Device& device, const Error& error) {
  return device.lost_on_the_way() || error.code == EAGAIN;
}

}  // namespace

ControlPlane::ControlPlane(Ground ground, std::function<void()> leave)
    : fabric_(ground.fabric),
      control_(ground.control),
      nbd_(ground.nbd),
      keeper_(ground.keeper),
      random_(std::move(ground.random)),
      workers_(std::move(ground.workers)),
      slow_io_(ground.slow_io),
      leave_(std::move(leave)),
      events_(control_, [this] { return snapshot(); }) {
  fabric_.on_link_up([this] {
    for (const auto& session : sessions_) session->rtrs().on_link_up();
  });
}

void ControlPlane::serve(control::Commands& commands) {
  commands.handle(control::kMapVerb, [this](const control::Json& args, control::Reply reply) {
    map(args, std::move(reply));
  });
  commands.handle(control::kUnmapVerb, [this](const control::Json& args, control::Reply reply) {
    unmap(args, std::move(reply));
  });
  commands.handle(control::kStatsVerb,
                  [this](const control::Json&, control::Reply reply) { stats(std::move(reply)); });
  commands.handle(control::kResetVerb, [this](const control::Json& args, control::Reply reply) {
    reset(args, std::move(reply));
  });
  commands.handle(control::kResizeVerb, [this](const control::Json& args, control::Reply reply) {
    resize(args, std::move(reply));
  });
  commands.handle(control::kListVerb,
                  [this](const control::Json&, control::Reply reply) { reply(list()); });
  commands.handle(control::kPathsVerb, [this](const control::Json& args, control::Reply reply) {
    paths(args, std::move(reply));
  });
  commands.handle(control::kPathVerb, [this](const control::Json& args, control::Reply reply) {
    path(args, std::move(reply));
  });
  commands.handle(control::kRemapVerb, [this](const control::Json& args, control::Reply reply) {
    remap(args, std::move(reply));
  });
  commands.handle(control::kSetVerb, [this](const control::Json& args, control::Reply reply) {
    set(args, std::move(reply));
  });
  commands.handle(control::kDiscoverVerb, [this](const control::Json& args, control::Reply reply) {
    discover(args, std::move(reply));
  });
  events_.serve(commands);
  commands.handle(control::kUpgradeVerb, [this](const control::Json& args, control::Reply reply) {
    upgrade(args, std::move(reply));
  });
}

void ControlPlane::map(const control::Json& args, control::Reply reply) {
  if (Status may = may_begin(); !may) return reply(fail(may.error()));
  if (loading_) {
    deferred_.emplace_back(
        [this, args, reply = std::move(reply)]() mutable { map(args, std::move(reply)); });
    return;
  }
  const auto words = control::read_map_args(args);
  if (!words) return reply(fail(words.error()));
  const auto request = parse_map_words(*words, host_name(), defaults_);
  if (!request) return reply(fail(request.error()));
  if (const Status can = request->persist ? can_remember() : Status{}; !can) {
    return reply(fail(can.error()));
  }
  begin_map(*request, [this, words = *words, request = *request,
                       reply = std::move(reply)](Result<std::string> node) mutable {
    if (!node) {
      reply(fail(node.error()));
    } else if (request.persist) {
      remember(words, request, *node, std::move(reply));
    } else {
      reply(control::map_result(*node));
    }
  });
}

Status ControlPlane::may_begin() const {
  if (on_handed_over_) return fail(being_replaced());
  if (on_stopped_) return fail(ESHUTDOWN, "the daemon is stopping");
  return {};
}

void ControlPlane::begin_map(const MapRequest& request, Mapped done, unsigned attempts) {
  if (Status may = may_begin(); !may) return done(fail(may.error()));
  if (clearing_ > 0) {
    behind_clearing_.emplace_back([this, request, attempts, done = std::move(done)]() mutable {
      begin_map(request, std::move(done), attempts);
    });
    return;
  }
  if (Status is_new = check_not_mapped(request); !is_new) return done(fail(is_new.error()));
  auto session = find_or_start_session(request);
  if (!session) return done(fail(session.error()));
  Device::Events& events = *this;
  devices_.push_back(std::make_unique<Device>(**session, control_, nbd_, keeper_,
                                              fmt::format("d{}", ++last_number_), request, slow_io_,
                                              events, events_));
  Device& device = *devices_.back();
  device.map([this, &device, attempts, done = std::move(done)](Result<std::string> node) mutable {
    const bool mapped = node.has_value();
    if (!mapped && may_work_now(device, node.error()) && attempts < kMapAttempts) {
      log::warn("{}: {}; it is mapped anew", device.request().device_path, describe(node.error()));
      return map_anew(device, std::move(done), attempts + 1);
    }
    done(std::move(node));
    if (mapped && on_stopped_) stop_device(device);  // too late to be of use
  });
}

/// As it is to be now, and in its session, which waits for a server that was lost.
void ControlPlane::map_anew(Device& device, Mapped done, unsigned attempts) {
  RnbdSession& session = device.session();
  mapping_anew_.push_back(&session);
  // Behind the end of the device.
  control_.post(
      [this, &session, request = device.request(), attempts, done = std::move(done)]() mutable {
        control_.post([this, &session, request, attempts, done = std::move(done)]() mutable {
          begin_map(request, std::move(done), attempts);
          mapping_anew_.erase(std::ranges::find(mapping_anew_, &session));
          end_session_if_unused(session);
        });
      });
}

Status ControlPlane::check_not_mapped(const MapRequest& request) const {
  for (const auto& device : devices_) {
    const MapRequest& other = device->request();
    if (other.session_name != request.session_name || other.device_path != request.device_path) {
      continue;
    }
    const std::string node = device->node();
    return fail(EEXIST, node.empty() || device->state() == DeviceState::Detaching
                            ? fmt::format("{} is being mapped or unmapped (session {})",
                                          request.device_path, request.session_name)
                            : fmt::format("{} already mapped as {} (session {})",
                                          request.device_path, node, request.session_name));
  }
  return {};
}

RnbdSession* ControlPlane::find_session(const std::string& name) const {
  const auto found =
      std::ranges::find_if(sessions_, [&](const auto& session) { return session->name() == name; });
  return found == sessions_.end() ? nullptr : found->get();
}

Result<RnbdSession*> ControlPlane::find_or_start_session(const MapRequest& request) {
  // As in the kernel, the paths of a session that exists already are not looked at.
  if (RnbdSession* const session = find_session(request.session_name)) return session;
  if (request.paths.empty()) {
    return fail(ENXIO,
                fmt::format("there is no session {}: give it a path=", request.session_name));
  }
  std::vector<rtrs::PathSpec> paths;
  paths.reserve(request.paths.size());
  for (const PathSpec& path : request.paths) {
    paths.push_back(make_path(path, request.port, random_));
  }
  const std::string memory = fmt::format("m{}", ++last_number_);
  sessions_.push_back(std::make_unique<RnbdSession>(
      fabric_, control_, workers_,
      rtrs::SessionSettings{
          .name = request.session_name,
          .paths = std::move(paths),
          .session_uuid = random_value<rtrs::Uuid>(random_),
          .heartbeat = {.interval = request.hb_interval, .missed_max = request.hb_missed_max},
          .policy = request.policy,
          .max_reconnect_attempts = request.max_reconnect_attempts,
          .seed = random_value<std::uint64_t>(random_),
          .make_memory = kept_memory(memory)},
      memory, events_));
  if (Status started = sessions_.back()->start(); !started) return fail(started.error());
  return sessions_.back().get();
}

Device* ControlPlane::find_device(const std::string& node) const {
  const auto found = std::ranges::find_if(
      devices_, [&](const auto& device) { return !node.empty() && device->node() == node; });
  return found == devices_.end() ? nullptr : found->get();
}

void ControlPlane::unmap(const control::Json& args, control::Reply reply) {
  if (on_handed_over_) return reply(fail(being_replaced()));
  const auto request = control::read_unmap_args(args);
  if (!request) return reply(fail(request.error()));
  Device* const device = find_device(request->device);
  if (device == nullptr && loading_) {
    if (Status may = may_begin(); !may) return reply(fail(may.error()));
    // It may be one that shall come back.
    deferred_.emplace_back(
        [this, args, reply = std::move(reply)]() mutable { unmap(args, std::move(reply)); });
    return;
  }
  if (device == nullptr) {
    if (forget_waiting(request->device, reply)) return;
    return reply(fail(not_mapped(request->device)));
  }
  device->unmap(request->force, [this, session = &device->session(),
                                 device_path = device->request().device_path,
                                 reply = std::move(reply)](Status status) mutable {
    if (status) {
      leaving_.push_back({session, forget_mapping(session->name(), device_path, std::move(reply))});
    } else {
      reply(fail(status.error()));
    }
  });
}

void ControlPlane::resize(const control::Json& args, control::Reply reply) {
  if (on_handed_over_) return reply(fail(being_replaced()));
  const auto node = control::read_resize_args(args);
  if (!node) return reply(fail(node.error()));
  Device* const device = find_device(*node);
  if (device == nullptr) return reply(fail(not_mapped(*node)));
  device->refresh(
      [node = *node, reply = std::move(reply)](const Result<std::uint64_t>& size) mutable {
        if (size) {
          reply(control::resize_result(node, *size));
        } else {
          reply(fail(size.error()));
        }
      });
}

void ControlPlane::remap(const control::Json& args, control::Reply reply) {
  if (on_handed_over_) return reply(fail(being_replaced()));
  const auto node = control::read_remap_args(args);
  if (!node) return reply(fail(node.error()));
  Device* const device = find_device(*node);
  if (device == nullptr) return reply(fail(not_mapped(*node)));
  device->remap(answer(std::move(reply)));
}

void ControlPlane::set(const control::Json& args, control::Reply reply) {
  if (on_handed_over_) return reply(fail(being_replaced()));
  const auto wanted = control::read_set_args(args);
  if (!wanted) return reply(fail(wanted.error()));
  const auto change = parse_session_words(wanted->words);
  if (!change) return reply(fail(change.error()));
  const bool all = wanted->session == "all";
  if (!all && find_session(wanted->session) == nullptr) {
    return reply(fail(ENOENT, fmt::format("there is no session {}", wanted->session)));
  }
  std::vector<std::string> changed;
  for (const auto& session : sessions_) {
    if (!all && session->name() != wanted->session) continue;
    change_session(*session, *change);
    changed.push_back(session->name());
  }
  if (wanted->temporary) return reply(control::Json::object());
  remember_change(std::move(changed), wanted->words, std::move(reply));
}

void ControlPlane::change_session(RnbdSession& session, const SessionWords& change) {
  rtrs::ClientSession& rtrs = session.rtrs();
  if (change.policy) rtrs.set_policy(*change.policy);
  if (change.max_reconnect_attempts) {
    rtrs.set_max_reconnect_attempts(*change.max_reconnect_attempts);
  }
  if (!change.fail_after) return;
  for (const auto& device : devices_) {
    if (&device->session() == &session) device->set_fail_after(*change.fail_after);
  }
}

void ControlPlane::discover(const control::Json& args, control::Reply reply) {
  if (Status may = may_begin(); !may) return reply(fail(may.error()));
  const auto words = control::read_map_args(args);
  if (!words) return reply(fail(words.error()));
  const auto wanted = parse_address_words(*words);
  if (!wanted) return reply(fail(wanted.error()));
  if (discoveries_.size() + wanted->paths.size() > limits::kMaxDiscoveries) {
    return reply(fail(EBUSY, fmt::format("{} addresses are being looked at already\n"
                                         "ask again when that has ended",
                                         discoveries_.size())));
  }
  const auto entries = std::make_shared<std::vector<control::Json>>(wanted->paths.size());
  const Countdown one_done(wanted->paths.size(),
                           [entries, reply = std::make_shared<control::Reply>(std::move(reply))] {
                             control::Json servers = control::Json::array();
                             for (control::Json& entry : *entries)
                               servers.push_back(std::move(entry));
                             (*reply)(control::servers_result(std::move(servers)));
                           });
  for (std::size_t i = 0; i < wanted->paths.size(); ++i) {
    const rtrs::PathSpec path = make_path(wanted->paths[i], wanted->port, random_);
    const unsigned number = ++last_number_;
    discoveries_[number] = std::make_unique<Discovery>(
        fabric_, control_, *workers_.front(), path, random_,
        [this, entries, i, number, one_done](const control::ServerEntry& entry) {
          (*entries)[i] = control::to_json(entry);
          one_done();
          control_.post([this, number] {
            discoveries_.erase(number);
            finish_stopping();
          });
        });
  }
}

control::Json ControlPlane::snapshot() const {
  control::Json now = list();
  now["paths"] = control::Json::array();
  for (const auto& session : sessions_) list_paths(*session, now["paths"]);
  return now;
}

control::Json ControlPlane::list() const {
  control::Json devices = control::Json::array();
  for (const auto& device : devices_) {
    if (device->node().empty()) continue;
    control::Json entry = control::to_json(device->entry());
    const MapRequest& request = device->request();
    entry["persist"] = persistent_.find(request.session_name, request.device_path) != nullptr;
    entry["paths"] = control::Json::array();
    list_paths(device->session(), entry["paths"]);
    devices.push_back(std::move(entry));
  }
  control::Json result = control::list_result(std::move(devices));
  if (!restoring_.empty()) result["waiting"] = list_waiting();
  return result;
}

void ControlPlane::paths(const control::Json& args, control::Reply reply) const {
  const auto name = control::read_paths_args(args);
  if (!name) return reply(fail(name.error()));
  if (!name->empty() && find_session(*name) == nullptr) {
    return reply(fail(ENOENT, fmt::format("there is no session {}", *name)));
  }
  control::Json entries = control::Json::array();
  for (const auto& session : sessions_) {
    if (name->empty() || session->name() == *name) list_paths(*session, entries);
  }
  reply(control::paths_result(std::move(entries)));
}

void ControlPlane::path(const control::Json& args, control::Reply reply) {
  const auto wanted = control::read_path_args(args);
  if (!wanted) return reply(fail(wanted.error()));
  RnbdSession* const session = find_session(wanted->session);
  if (session == nullptr) {
    return reply(fail(ENOENT, fmt::format("there is no session {}", wanted->session)));
  }
  if (wanted->action == "policy") {
    const control::SetArgs same{wanted->session, {"mpath_policy=" + wanted->path}};
    return set(control::to_json(same), std::move(reply));
  }
  change_path(*session, *wanted, random_, std::move(reply));
}

void ControlPlane::on_device_gone(Device& device) {
  control_.post([this, &device] { remove_device(device); });
}

void ControlPlane::remove_device(Device& device) {
  RnbdSession& session = device.session();
  std::erase_if(devices_, [&](const auto& one) { return one.get() == &device; });
  end_session_if_unused(session);
  finish_stopping();
}

void ControlPlane::end_session_if_unused(RnbdSession& session) {
  const bool used = std::ranges::any_of(
      devices_, [&](const auto& device) { return &device->session() == &session; });
  if (used || std::ranges::find(mapping_anew_, &session) != mapping_anew_.end()) {
    answer_leaving(session);
    return;
  }
  const auto found =
      std::ranges::find_if(sessions_, [&](const auto& one) { return one.get() == &session; });
  ending_.push_back(std::move(*found));
  sessions_.erase(found);
  session.stop([this, &session] {
    answer_leaving(session);
    keeper_.forget(session.memory_name());
    std::erase_if(ending_, [&](const auto& one) { return one.get() == &session; });
    finish_stopping();
  });
}

void ControlPlane::answer_leaving(const RnbdSession& session) {
  for (Leaving& one : leaving_) {
    if (one.session == &session) one.reply(control::Json::object());
  }
  // A Reply only moves, and is not assigned: what is left moves to a new list.
  std::vector<Leaving> others;
  for (Leaving& one : leaving_) {
    if (one.session != &session) others.push_back(std::move(one));
  }
  leaving_.swap(others);
}

void ControlPlane::stop(Executor::Task done) {
  on_stopped_ = std::move(done);
  for (const auto& device : devices_) stop_device(*device);
  stop_patience_ = control_.call_after(kStopPatience, [this] { force_all(); });
  let_waiting_go();
  control_.post([this] { finish_stopping(); });
}

void ControlPlane::stop_device(Device& device) {
  if (device.state() != DeviceState::Open) return;
  // Without a server a flush would wait for ever.
  const bool force = !device.session().rtrs().connected();
  device.unmap(force, [&device](const Status& status) {
    if (status) return;
    log::warn("{}; it is unmapped by force", describe(status.error()));
    device.unmap(true, [](const Status&) {});
  });
}

void ControlPlane::force_all() {
  for (const auto& device : devices_) {
    log::warn("{} is unmapped by force: it took too long", device->request().device_path);
    device->unmap(true, [](const Status&) {});
  }
}

void ControlPlane::finish_stopping() {
  const bool idle = devices_.empty() && sessions_.empty() && ending_.empty();
  if (on_stopped_ && idle && discoveries_.empty()) {
    stop_patience_.reset();
    std::exchange(on_stopped_, nullptr)();
  }
}

}  // namespace rnbd::client
