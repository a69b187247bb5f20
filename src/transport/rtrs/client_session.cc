// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/client_session.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/countdown.h"
#include "common/limits.h"

namespace rnbd::rtrs {

ClientSession::ClientSession(transport::Fabric& fabric, ControlContext& control,
                             std::vector<WorkerContext*> workers, SessionSettings settings,
                             SessionEvents& events)
    : fabric_(fabric),
      control_(control),
      workers_(std::move(workers)),
      settings_(std::move(settings)),
      events_(events),
      delay_(limits::kReconnectDelayMin) {}

ClientSession::~ClientSession() { RNBD_ASSERT(path_ == nullptr); }

void ClientSession::start() { open_path(); }

void ClientSession::open_path() {
  std::vector<WorkerContext*> workers = {workers_[0]};
  workers.insert(workers.end(), workers_.begin(), workers_.end());
  path_ = std::make_unique<ClientPath>(fabric_, control_, std::move(workers),
                                       PathSettings{.source = settings_.source,
                                                    .destination = settings_.destination,
                                                    .session_name = settings_.name,
                                                    .session_uuid = settings_.session_uuid,
                                                    .path_uuid = settings_.path_uuid,
                                                    .attempt = ++attempts_,
                                                    .may_create_session = true,
                                                    .heartbeat = settings_.heartbeat},
                                       *this);
  path_->start();
}

Result<SessionCore*> ClientSession::on_path_parameters(const ServerParameters& parameters) {
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
  auto core = SessionCore::create(parameters, count);
  if (!core) return fail(core.error());
  core_ = std::move(*core);
  for (std::uint32_t i = 0; i <= count; ++i) {
    queues_.push_back(std::make_unique<SessionQueue>(i, *core_, worker_of(i)));
    core_->sleepers.push_back(queues_.back().get());
    worker_of(i).post([queue = queues_.back().get()] { queue->worker().add(*queue); });
  }
  service_ = std::make_unique<ServiceQueue>(*queues_[0], core_->depth(), control_);
  return {};
}

void ClientSession::on_path_connected() {
  if (was_up_) ++reconnects_;
  was_up_ = true;
  delay_ = limits::kReconnectDelayMin;
  local_address_ = path_->local_address();
  peer_address_ = path_->peer_address();
  last_error_.clear();
  on_each_queue(
      [path = path_.get()](std::size_t index, SessionQueue& queue) {
        queue.connect(path->connection(static_cast<std::uint16_t>(index)));
        if (index == 0) queue.open_gate(true);
      },
      [] {});
  events_.on_session_up();
}

void ClientSession::resume() {
  on_each_queue(
      [](std::size_t index, SessionQueue& queue) {
        if (index > 0) queue.open_gate(true);
      },
      [] {});
}

void ClientSession::send(ServiceMessage message) {
  worker_of(0).post(
      [this, message = std::move(message)]() mutable { service_->send(std::move(message)); });
}

void ClientSession::on_path_lost(const Error& error) {
  last_error_ = describe(error);
  if (service_) worker_of(0).post([this] { service_->fail_all(ENOTCONN); });
  // The name may be ours still, of a session whose end the server has yet to see.
  const bool turned_away = path_->lost_in_info() && error.code == ECONNRESET;
  again_ = was_up_ || (turned_away && attempts_ < limits::kNameAttempts);
  if (!on_closed_ && (was_up_ || !again_)) events_.on_session_down(error, again_);
}

void ClientSession::on_path_closed() {
  // Only now can no adapter write into a buffer any more.
  on_each_queue([](std::size_t, SessionQueue& queue) { queue.disconnect(); },
                [this] { on_queues_disconnected(); });
}

void ClientSession::on_queues_disconnected() {
  path_.reset();
  if (on_closed_) {
    finish_closing();
  } else if (again_) {
    schedule_reconnect();
  }
}

void ClientSession::schedule_reconnect() {
  retry_ = control_.call_after(delay_, [this] { open_path(); });
  delay_ = std::min<Duration>(delay_ * 2, limits::kReconnectDelayMax);
}

void ClientSession::close(Executor::Task done) {
  RNBD_ASSERT(!on_closed_);
  on_closed_ = std::move(done);
  retry_.reset();
  if (path_ != nullptr) {
    path_->close({ECANCELED, "the session is closed"});
  } else {
    control_.post([this] { finish_closing(); });
  }
}

void ClientSession::finish_closing() {
  on_each_queue([](std::size_t, SessionQueue& queue) { queue.worker().remove(queue); },
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
