// SPDX-License-Identifier: Apache-2.0
// Device, third part: what becomes of requests that come now, and how the server gets it open
// again.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "client/device.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

constexpr std::chrono::seconds kReopenDelay{2};

}  // namespace

std::string_view Device::name_of(Service service) {
  switch (service) {
    case Service::Open:
      return "open";
    case Service::Queueing:
      return "queueing";
    case Service::Failing:
      return "failing";
    case Service::Closed:
      return "closed";
  }
  return "closed";
}

void Device::set_service(Service service) {
  if (service_ == service) return;
  const bool failing = service_ == Service::Failing;
  service_ = service;
  since_ = Clock::now();
  patience_.reset();
  const bool serving = state_ == DeviceState::Open && queues_ != nullptr;
  if (serving) tell(name_of(service));
  if (failing && serving) queues_->serve_again();
  if (service == Service::Queueing) {
    begin_patience(Duration::zero());
  } else if (service == Service::Failing && queues_ != nullptr) {
    // An unmap's flush must not wait any longer either.
    const log::About about(session_.name(), node());
    log::error("{} ({}): no path for {} s; its I/O fails until there is one", node(),
               request_.device_path, request_.fail_after->count());
    queues_->fail_all([] {});
  }
}

/// An unmap has failed: what became of the service meanwhile was not done to the queues, and what a
/// forced one did to them stands.
void Device::catch_up_with_service() {
  if (queues_ == nullptr) return;
  if (service_ == Service::Failing) {
    queues_->fail_all([] {});
  } else {
    queues_->serve_again();
  }
}

/// `passed`: for how long requests have been waiting.
void Device::begin_patience(Duration passed) {
  patience_.reset();
  if (!request_.fail_after) return;
  const Duration left = *request_.fail_after - passed;
  patience_ = control_.call_after(std::max(left, Duration::zero()),
                                  [this] { set_service(Service::Failing); });
}

void Device::set_fail_after(std::optional<std::chrono::seconds> limit) {
  request_.fail_after = limit;
  if (state_ == DeviceState::Open || state_ == DeviceState::Detaching) on_session_changed();
  if (service_ == Service::Queueing) begin_patience(Clock::now() - since_);
  if (service_ == Service::Failing && !limit) set_service(Service::Queueing);
}

void Device::tell(std::string_view state) {
  control::Json event = {{"device", fmt::format("/dev/nbd{}", *index_)},
                         {"session", request_.session_name},
                         {"mapping_path", request_.device_path},
                         {"state", state},
                         {"size_bytes", shape_of(opened_)->size_bytes}};
  const bool well = state == "open" || state == "unmapped";
  if (!well && !last_error_.empty()) event["reason"] = last_error_;
  log_.add("device", event);
}

void Device::remap(std::move_only_function<void(Status)> done) {
  if (state_ != DeviceState::Open) {
    return done(fail(EBUSY, fmt::format("{} is being mapped or unmapped", request_.device_path)));
  }
  if (service_ == Service::Open) return done({});
  if (service_ != Service::Closed) {
    return done(fail(ENOTCONN, fmt::format("the server of {} is away: {}", node(), last_error_)));
  }
  retry_.reset();
  reopen([this, alive = std::weak_ptr<bool>(alive_), done = std::move(done)]() mutable {
    if (alive.expired()) return done(fail(ENOENT, "it was unmapped meanwhile"));
    if (service_ == Service::Open) return done({});
    done(fail(ENXIO, fmt::format("{} is {}: {}", node(), name_of(service_), last_error_)));
  });
}

void Device::reopen(Executor::Task done) {
  session_.open({request_.device_path, request_.access_mode, request_.io_mode},
                [this, &session = session_, alive = std::weak_ptr<bool>(alive_),
                 done = std::move(done)](Result<wire::OpenResponse> response) mutable {
                  const bool unmapped = alive.expired() || queues_ == nullptr;
                  if (!unmapped) {
                    on_reopened(response, std::move(done));
                  } else if (response) {
                    session.close_device(response->device_id, std::move(done));
                  } else {
                    done();
                  }
                });
}

void Device::on_reopened(const Result<wire::OpenResponse>& response, Executor::Task done) {
  if (!response && response.error().code == ENOTCONN) return done();  // the next life opens it
  auto shape = response ? shape_of(*response) : Result<DeviceShape>(fail(response.error()));
  if (shape) {
    if (Status same = check_same_device(opened_, *response); !same) shape = fail(same.error());
  }
  const log::About about(session_.name(), node());
  if (!shape) {
    if (response) session_.close_device(response->device_id, [] {});
    last_error_ = describe(shape.error());
    log::error("{} ({}): {}; its I/O fails until the server has it again", node(),
               request_.device_path, last_error_);
    set_service(Service::Closed);
    queues_->set_device(kNoDevice, *shape_of(largest()), std::move(done));
    retry_ = control_.call_after(kReopenDelay, [this] { reopen([] {}); });
    return;
  }
  // The kernel has yet to be told of another size; until then whatever it may ask for passes.
  const std::uint64_t known = opened_.sectors;
  opened_ = *response;
  opened_.sectors = known;
  server_sectors_ = response->sectors;
  on_session_changed();
  at_server_ = true;
  last_error_.clear();
  log::info("{} ({}) is open again", node(), request_.device_path);
  queues_->set_device(opened_.device_id, *shape_of(largest()), std::move(done));
  set_service(Service::Open);
  if (server_sectors_ != known || inherited_ || stale_size_) on_server_changed();
}

}  // namespace rnbd::client
