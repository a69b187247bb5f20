// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/client_session.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/countdown.h"
#include "common/limits.h"
#include "common/log.h"

namespace rnbd::rtrs {

ClientSession::ClientSession(transport::Fabric& fabric, ControlContext& control,
                             std::vector<WorkerContext*> workers, SessionSettings settings,
                             SessionEvents& events)
    : fabric_(fabric),
      control_(control),
      workers_(std::move(workers)),
      settings_(std::move(settings)),
      events_(events) {
  RNBD_ASSERT(!settings_.paths.empty() && settings_.paths.size() <= limits::kMaxClientPaths);
  for (const PathSpec& path : settings_.paths) add(path);
}

ClientSession::~ClientSession() { RNBD_ASSERT(on_closed_ == nullptr); }

PathKeeper& ClientSession::add(PathSpec spec) {
  std::size_t index = 0;
  const auto taken = [&](const auto& path) { return path->index() == index; };
  while (std::ranges::any_of(paths_, taken)) ++index;
  std::vector<WorkerContext*> workers = {workers_[0]};
  workers.insert(workers.end(), workers_.begin(), workers_.end());
  PathOwner& owner = *this;
  paths_.push_back(
      std::make_unique<PathKeeper>(fabric_, control_, std::move(workers), index, std::move(spec),
                                   KeeperSettings{.session_name = settings_.name,
                                                  .session_uuid = settings_.session_uuid,
                                                  .heartbeat = settings_.heartbeat,
                                                  .max_attempts = settings_.max_reconnect_attempts,
                                                  .seed = settings_.seed},
                                   owner));
  return *paths_.back();
}

Status ClientSession::start() {
  if (!settings_.resumed) {
    paths_.front()->connect();
    return {};
  }
  if (Status created = create_core(settings_.resumed->parameters); !created) return created;
  take_over_permits();
  was_up_ = true;
  for (const auto& path : paths_) {
    path->resume();
    former_.insert(path.get());
  }
  for (const auto& path : paths_) path->connect();
  return {};
}

/// Those of requests that go on are their queues'; any other that the former process had in use may
/// stand for something that the server is still executing.
void ClientSession::take_over_permits() {
  const std::vector<PermitId>& held = settings_.resumed->held_permits;
  std::vector<PermitId> others = core_->permits.all_used();
  std::erase_if(others, [&](PermitId one) { return std::ranges::find(held, one) != held.end(); });
  for (const PermitId permit : held) {
    core_->permits.claim(permit);
    core_->request(permit).sent = true;
  }
  if (others.empty()) return;
  log::info("session {}: {} chunks are in doubt", settings_.name, others.size());
  worker_of(0).post([this, others = std::move(others)] { queues_[0]->adopt(others); });
}

PathKeeper* ClientSession::first_connected() const {
  const auto found =
      std::ranges::find_if(paths_, [](const auto& path) { return path->connected(); });
  return found == paths_.end() ? nullptr : found->get();
}

std::string ClientSession::local_address() const {
  const PathKeeper* const path = first_connected();
  return path == nullptr ? std::string() : path->local_address();
}

std::string ClientSession::peer_address() const {
  const PathKeeper* const path = first_connected();
  return path == nullptr ? std::string() : path->peer_address();
}

bool ClientSession::can_do_without(const PathKeeper& path) const {
  return std::ranges::any_of(paths_, [&](const auto& other) {
    return other.get() != &path && other->connected() && !other->draining() && !other->ending();
  });
}

bool ClientSession::is_only(const PathKeeper& path) const {
  return std::ranges::none_of(paths_, [&](const auto& other) {
    return other.get() != &path && !other->ending() && !being_added_.contains(other.get());
  });
}

std::uint32_t ClientSession::in_flight(const PathKeeper& path) const {
  std::uint32_t sum = 0;
  for (const auto& queue : queues_) sum += queue->in_flight(path.index());
  return sum;
}

std::optional<Route> ClientSession::live_route(const PathKeeper& path) const {
  for (const auto& other : paths_) {
    if (other.get() != &path && other->connected()) return other->route();
  }
  return std::nullopt;
}

Result<SessionCore*> ClientSession::on_parameters(const ServerParameters& parameters) {
  if (core_ == nullptr) {
    if (Status created = create_core(parameters); !created) return fail(created.error());
  }
  if (parameters.queue_depth != core_->depth() || parameters.max_io_size < core_->max_io_size()) {
    return fail(EPROTO,
                fmt::format("the server came back with {} chunks of {} bytes; it had {} of {}",
                            parameters.queue_depth, parameters.max_io_size, core_->depth(),
                            core_->max_io_size()));
  }
  return core_.get();
}

Status ClientSession::create_core(const ServerParameters& parameters) {
  const auto count = static_cast<std::uint32_t>(workers_.size());
  auto core = SessionCore::create(parameters, count, settings_.make_memory);
  if (!core) return fail(core.error());
  core_ = std::move(*core);
  core_->policy = settings_.policy;
  for (std::uint32_t i = 0; i <= count; ++i) {
    queues_.push_back(std::make_unique<SessionQueue>(i, *core_, worker_of(i)));
    core_->sleepers.push_back(queues_.back().get());
    worker_of(i).post([queue = queues_.back().get()] { queue->worker().add(*queue); });
  }
  service_ = std::make_unique<ServiceQueue>(*queues_[0], core_->depth(), control_);
  return {};
}

void ClientSession::on_up(PathKeeper& path) {
  connect_queues(path);
  const bool others = live_route(path).has_value();
  if (!others) {
    if (was_up_) ++reconnects_;
    last_error_.clear();
    worker_of(0).post([this] { queues_[0]->open_gate(true); });
  }
  for (const auto& other : paths_) {
    if (other.get() == &path) continue;
    if (!was_up_) {
      other->connect();  // begins those too that could not be the first
    } else {
      other->on_other_path_up();
    }
  }
  was_up_ = true;
  if (!others) events_.on_session_up();
}

void ClientSession::connect_queues(PathKeeper& path) {
  on_each_queue(
      [&path](std::size_t index, SessionQueue& queue) {
        queue.connect(path.index(), path.connection(static_cast<std::uint16_t>(index)),
                      path.stats());
      },
      [] {});
}

void ClientSession::resume() {
  resuming_ = true;
  if (former_.empty()) open_gates();
}

void ClientSession::open_gates() {
  resuming_ = false;
  on_each_queue(
      [](std::size_t index, SessionQueue& queue) {
        if (index > 0) queue.open_gate(true);
      },
      [] {});
}

void ClientSession::send(ServiceMessage message) {
  if (!connected()) {
    control_.post([done = std::move(message.done)]() mutable { done(ENOTCONN, {}); });
    return;
  }
  worker_of(0).post(
      [this, message = std::move(message)]() mutable { service_->send(std::move(message)); });
}

void ClientSession::on_link_up() {
  if (on_closed_) return;
  for (const auto& path : paths_) path->on_link_up();
}

Status ClientSession::check_new_path(const PathSpec& spec) const {
  if (!was_up_) return fail(ENOTCONN, "the session has not been up yet");
  const auto same = [&](const auto& path) {
    const Route& route = path->spec().route;
    return route.source.text == spec.route.source.text &&
           route.destination.text == spec.route.destination.text && !path->ending();
  };
  if (std::ranges::any_of(paths_, same)) return fail(EEXIST, "the session has this path");
  if (paths_.size() >= limits::kMaxClientPaths) {
    return fail(ENOSPC, fmt::format("a session has {} paths at most", limits::kMaxClientPaths));
  }
  return {};
}

void ClientSession::add_path(PathSpec spec, PathKeeper::Done done) {
  settings_.paths.push_back(spec);
  PathKeeper& path = add(std::move(spec));
  events_.on_settings_changed();
  being_added_.insert(&path);
  path.reconnect([this, added = &path, done = std::move(done)](const Status& status) mutable {
    being_added_.erase(added);
    if (status) {
      done({});
      return;
    }
    remove_path(*added, [done = std::move(done), status]() mutable { done(status); });
  });
}

void ClientSession::remove_path(PathKeeper& path, Executor::Task done) {
  // The last one's requests wait until another path is there to fence it over: not so the caller.
  if (live_route(path)) {
    removals_.push_back({&path, std::move(done)});
  } else {
    control_.post(std::move(done));
  }
  path.end(true);
}

void ClientSession::set_policy(PathPolicy policy) {
  settings_.policy = policy;
  if (core_ != nullptr) core_->policy = policy;
  events_.on_settings_changed();
}

void ClientSession::set_max_reconnect_attempts(int attempts) {
  settings_.max_reconnect_attempts = attempts;
  for (const auto& path : paths_) path->set_max_attempts(attempts);
  events_.on_settings_changed();
}

bool ClientSession::on_lost(PathKeeper& path, const Error& error, bool was_up) {
  if (on_closed_) return false;
  if (error.code == EAGAIN && !was_up) return true;  // an attempt that is given up for another
  if (!was_up_) return on_first_attempt_failed(path, error);
  if (was_up) {
    for (const auto& other : paths_) {
      if (other.get() != &path) other->on_other_path_lost();
    }
    if (!connected()) on_last_path_lost(error);
  } else if (!connected()) {
    last_error_ = describe(error);
  }
  return true;
}

bool ClientSession::on_first_attempt_failed(PathKeeper& path, const Error& error) {
  last_error_ = describe(error);
  // The name may be ours still, of a session whose end the server has yet to see.
  if (path.lost_in_info() && error.code == ECONNRESET && ++turned_away_ < limits::kNameAttempts) {
    return true;
  }
  const auto next = std::ranges::find_if(
      paths_, [](const auto& other) { return other->state() == KeeperState::Idle; });
  if (next != paths_.end()) {
    (*next)->connect();
  } else {
    events_.on_session_down(error, false);
  }
  return false;
}

void ClientSession::on_last_path_lost(const Error& error) {
  last_error_ = describe(error);
  resuming_ = false;
  generation_ = 0;
  on_each_queue([](std::size_t, SessionQueue& queue) { queue.close_gate(); }, [] {});
  worker_of(0).post([this] { service_->fail_all(ENOTCONN); });
  events_.on_session_down(error, true);
}

void ClientSession::let_go(PathKeeper& path, Executor::Task done) {
  on_each_queue(
      [index = path.index()](std::size_t, SessionQueue& queue) { queue.disconnect(index); },
      std::move(done));
}

void ClientSession::send_again(PathKeeper& path) {
  on_each_queue(
      [index = path.index(), stats = &path.stats()](std::size_t, SessionQueue& queue) {
        stats->failovers += queue.send_again(index);
      },
      [] {});
  former_.erase(&path);
  if (resuming_ && former_.empty()) open_gates();
}

void ClientSession::stop_using(PathKeeper& path, Executor::Task done) {
  on_each_queue([index = path.index()](std::size_t, SessionQueue& queue) { queue.drain(index); },
                std::move(done));
}

void ClientSession::on_state(const PathKeeper& path) { events_.on_path_state(path); }

void ClientSession::on_server_generation(std::uint32_t generation) {
  if (std::exchange(generation_, generation) != generation) events_.on_server_changed();
}

void ClientSession::on_ended(PathKeeper& path) {
  // Behind what it has asked of the workers, and not from inside its own call.
  on_each_queue(
      [](std::size_t, SessionQueue&) {},
      [this, ended = &path] {
        std::erase_if(settings_.paths,
                      [&](const PathSpec& one) { return one.uuid == ended->spec().uuid; });
        if (!on_closed_) events_.on_settings_changed();
        std::erase_if(paths_, [&](const auto& one) { return one.get() == ended; });
        for (Removal& removal : removals_) {
          if (removal.path == ended) control_.post(std::move(removal.done));
        }
        std::erase_if(removals_, [&](const Removal& removal) { return removal.path == ended; });
        if (on_closed_ && paths_.empty()) finish_closing();
      });
}

void ClientSession::close(Executor::Task done) {
  RNBD_ASSERT(!on_closed_);
  on_closed_ = std::move(done);
  if (service_ != nullptr) {
    worker_of(0).post([this] { service_->fail_all(ENOTCONN); });
  }
  if (paths_.empty()) control_.post([this] { finish_closing(); });
  for (const auto& path : paths_) path->end(false);
}

void ClientSession::finish_closing() {
  on_each_queue([](std::size_t, SessionQueue& queue) { queue.end(); },
                [this] {
                  RNBD_ASSERT(core_ == nullptr || core_->permits.in_use() == 0);
                  std::exchange(on_closed_, nullptr)();
                });
}

void ClientSession::on_each_queue(const std::function<void(std::size_t, SessionQueue&)>& step,
                                  Executor::Task done) {
  if (queues_.empty()) {
    control_.post(std::move(done));
    return;
  }
  const Countdown one_done(queues_.size(), std::move(done));
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    worker_of(i).post([this, step, i, one_done] {
      step(i, *queues_[i]);
      control_.post(one_done);
    });
  }
}

}  // namespace rnbd::rtrs
