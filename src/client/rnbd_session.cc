// SPDX-License-Identifier: Apache-2.0
#include "client/rnbd_session.h"

#include <algorithm>
#include <cerrno>
#include <optional>

#include <fmt/format.h>

#include "client/path_control.h"
#include "common/countdown.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

/// How long a map waits for a server that was lost, from then on: heartbeats missed by a host that
/// was busy cost a second or two.
constexpr std::chrono::seconds kComeback{10};

template <typename T>
std::vector<std::byte> to_bytes(const T& message) {
  const auto bytes = std::as_bytes(std::span(&message, 1));
  return {bytes.begin(), bytes.end()};
}

std::optional<wire::OpenResponse> load_response(int error, std::span<const std::byte> answer) {
  return error == 0 ? std::optional(load<wire::OpenResponse>(answer)) : std::nullopt;
}

}  // namespace

RnbdSession::RnbdSession(transport::Fabric& fabric, ControlContext& control,
                         std::vector<WorkerContext*> workers, rtrs::SessionSettings settings,
                         std::string memory_name, control::EventLog& events)
    : control_(control),
      memory_name_(std::move(memory_name)),
      events_(events),
      session_(fabric, control, std::move(workers), std::move(settings), *this),
      was_ready_(session_.settings().resumed.has_value()) {
  if (was_ready_) expect_comeback();
}

void RnbdSession::when_ready(std::move_only_function<void(Status)> done) {
  if (ready_) {
    done({});
  } else if (!failed_) {
    done(failed_);
  } else if (was_ready_ && comeback_ == nullptr) {
    done(server_away());
  } else {
    waiting_.push_back(std::move(done));
  }
}

void RnbdSession::expect_comeback() {
  comeback_ = control_.call_after(kComeback, [this] { give_up_comeback(server_away()); });
}

void RnbdSession::give_up_comeback(const Status& why) {
  if (comeback_ == nullptr) return;
  comeback_.reset();
  refuse_waiting(why);
}

Status RnbdSession::server_away() const {
  const std::string why = session_.connected() ? "what was open there is still being opened again"
                                               : session_.last_error();
  return fail(ENOTCONN, fmt::format("session {} has lost its server: {}", name(), why));
}

void RnbdSession::on_session_up() {
  wire::SessionInfo hello;
  hello.header = wire::header(wire::MessageType::SessionInfo);
  session_.send({.direction = rtrs::Direction::Read,
                 .message = to_bytes(hello),
                 .answer_length = sizeof(wire::SessionInfo),
                 .done = [this, life = ++life_](int error, std::vector<std::byte> answer) {
                   if (life == life_) on_hello(error, answer);
                 }});
}

void RnbdSession::on_hello(int error, std::span<const std::byte> answer) {
  if (error != 0) {
    on_refused({error, "the server refused SESS_INFO"});
    return;
  }
  const auto info = load<wire::SessionInfo>(answer);
  const log::About about(name());
  log::info("session {}: connected to {}, RNBD version {}", name(), session_.peer_address(),
            info.version);
  close_stale();
}

void RnbdSession::close_stale() {
  const Countdown one_done(stale_ids_.size() + 1, [this, life = life_] {
    if (life != life_) return;
    stale_ids_.clear();
    reopen_devices();
  });
  for (const std::uint32_t id : stale_ids_) close_device(id, one_done);
  one_done();
}

void RnbdSession::reopen_devices() {
  const Countdown one_done(devices_.size() + 1, [this, life = life_] {
    if (life == life_) become_ready();
  });
  for (SessionDevice* device : devices_) device->reopen(one_done);
  one_done();
}

void RnbdSession::become_ready() {
  ready_ = true;
  was_ready_ = true;
  failed_ = {};
  comeback_.reset();
  session_.resume();
  for (auto& done : std::exchange(waiting_, {})) done({});
}

void RnbdSession::on_session_down(const Error& error, bool will_retry) {
  ++life_;
  if (std::exchange(ready_, false)) expect_comeback();
  stale_ids_.merge(open_ids_);
  open_ids_.clear();
  const log::About about(name());
  log::warn("session {}: {}", name(), describe(error));
  for (SessionDevice* device : devices_) device->on_session_lost(describe(error));
  if (!will_retry || !was_ready_) on_refused(error);
}

void RnbdSession::on_path_state(const rtrs::PathKeeper& path) {
  path_changes_[path.index()] = Clock::now();
  if (path.ending()) {
    path_marks_.erase(path.index());
    failures_told_.erase(path.index());
  }
  const std::string& to = path.spec().route.destination.text;
  const log::About about(name());
  if (path.connected() && !path.ending()) {
    failures_told_.erase(path.index());
    log::info("session {}: path {} -> {} is {}", name(), path.local_address(), to,
              path.draining() ? "being drained" : "connected");
  } else if (path.state() == rtrs::KeeperState::Closing && !path.ending() && !path.made_way()) {
    // It is tried again and again; that it still fails in the same way is no news.
    std::string& told = failures_told_[path.index()];
    if (told != path.last_error()) {
      log::warn("session {}: path to {}: {}", name(), to, path.last_error());
    }
    told = path.last_error();
  }
  if (const auto event = path_event(*this, path, paths_told_[path.index()])) {
    events_.add("path", *event);
  }
}

void RnbdSession::on_settings_changed() {
  for (SessionDevice* device : devices_) device->on_session_changed();
}

void RnbdSession::on_server_changed() {
  for (SessionDevice* device : devices_) device->on_server_changed();
}

void RnbdSession::mark(const rtrs::PathKeeper& path) {
  path_marks_[path.index()] = {
      .at = Clock::now(), .failovers = path.stats().failovers, .reconnects = path.reconnects()};
}

const RnbdSession::PathMark* RnbdSession::mark_of(const rtrs::PathKeeper& path) const {
  const auto found = path_marks_.find(path.index());
  return found == path_marks_.end() ? nullptr : &found->second;
}

TimePoint RnbdSession::since(const rtrs::PathKeeper& path) const {
  const auto found = path_changes_.find(path.index());
  return found == path_changes_.end() ? Clock::now() : found->second;
}

void RnbdSession::on_refused(const Error& error) {
  const log::About about(name());
  log::warn("session {} cannot be used: {}", name(), describe(error));
  failed_ = fail(error);
  comeback_.reset();
  refuse_waiting(failed_);
}

void RnbdSession::refuse_waiting(Status why) {
  // Whoever waits may end the session: not from inside its own call.
  control_.post([waiting = std::exchange(waiting_, {}), why = std::move(why)]() mutable {
    for (auto& done : waiting) done(why);
  });
}

void RnbdSession::open(const OpenRequest& request,
                       std::move_only_function<void(Result<wire::OpenResponse>)> done) {
  if (!session_.connected()) {
    control_.post(
        [done = std::move(done)]() mutable { done(fail(ENOTCONN, "the session has no path")); });
    return;
  }
  wire::Open message;
  message.header = wire::header(wire::MessageType::Open);
  message.access_mode = static_cast<std::uint8_t>(request.access);
  message.io_mode = static_cast<std::uint8_t>(request.io_mode);
  message.io_mode_mark = wire::kIoModeMark;
  if (request.device_path.size() >= message.device_name.size()) {
    done(fail(EINVAL, "the device's name is too long"));
    return;
  }
  std::ranges::copy(request.device_path, message.device_name.begin());
  session_.send(
      {.direction = rtrs::Direction::Read,
       .message = to_bytes(message),
       .answer_length = sizeof(wire::OpenResponse),
       .done = [this, life = life_, path = request.device_path, done = std::move(done)](
                   int error, std::vector<std::byte> answer) mutable {
         const auto response = load_response(error, answer);
         const bool stale = life != life_;
         if (response) (stale ? stale_ids_ : open_ids_).insert(response->device_id);
         if (stale) {
           done(fail(ENOTCONN, fmt::format("{} was lost while it was being opened", path)));
         } else if (!response) {
           // This errno says that the session was lost, here.
           const int code = error == ENOTCONN ? EIO : error;
           done(fail(code, fmt::format("the server cannot open {}", path)));
         } else {
           done(*response);
         }
       }});
}

void RnbdSession::close_device(std::uint32_t device_id, Executor::Task done) {
  if (!session_.connected()) {
    control_.post(std::move(done));
    return;
  }
  wire::Close message;
  message.header = wire::header(wire::MessageType::Close);
  message.device_id = device_id;
  session_.send({.direction = rtrs::Direction::Write,
                 .message = to_bytes(message),
                 .answer_length = 0,
                 .done = [this, device_id, done = std::move(done)](
                             int error, const std::vector<std::byte>&) mutable {
                   open_ids_.erase(device_id);
                   if (error != 0) stale_ids_.insert(device_id);
                   done();
                 }});
}

}  // namespace rnbd::client
