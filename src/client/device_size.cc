// SPDX-License-Identifier: Apache-2.0
// Device, second part: the server's disk has another size.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "client/device.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

constexpr std::chrono::seconds kSizeRetry{2};  ///< if the kernel would not have it

}  // namespace

void Device::on_server_changed() {
  if (can_resize()) {
    refresh([](const Result<std::uint64_t>&) {});
  } else {
    stale_size_ = true;
  }
}

/// Not while a successor is awaited: newer kernels let nobody in while they change a size, and wait
/// for requests that we would not take any more. The successor asks by itself.
bool Device::can_resize() const { return state_ == DeviceState::Open && at_server_ && !drained_; }

void Device::refresh(Sized done) {
  if (state_ != DeviceState::Open) {
    return done(fail(EBUSY, fmt::format("{} is being mapped or unmapped", request_.device_path)));
  }
  if (!at_server_) {
    return done(fail(ENOTCONN, fmt::format("the server of {} is away: {}", node(), last_error_)));
  }
  refreshed_.push_back(std::move(done));
  if (refreshing_) {
    stale_size_ = true;  // what is being answered may be older than the question
  } else {
    ask_size();
  }
}

/// OPEN of a device that the session has open changes nothing, and tells of it.
void Device::ask_size() {
  refreshing_ = true;
  stale_size_ = false;
  asked_ = true;
  session_.open({request_.device_path, request_.access_mode, request_.io_mode},
                [this](const Result<wire::OpenResponse>& response) {
                  asked_ = false;
                  if (!after_answer_) return on_size(response);
                  if (response && response->device_id != opened_.device_id) {
                    session_.close_device(response->device_id, [] {});
                  }
                  std::exchange(after_answer_, nullptr)();
                });
}

void Device::on_size(const Result<wire::OpenResponse>& response) {
  if (!response) {
    // A server answers OPEN of what is open, so it is not, whoever has closed it.
    if (response.error().code != ENOTCONN && can_resize()) lose_at_server(response);
    return finish_refresh(fail(response.error()));
  }
  if (!can_resize()) {
    stale_size_ = true;
    return finish_refresh(fail(EBUSY, "the device is not open now"));
  }
  if (response->device_id != opened_.device_id) {
    // The server had closed it, and has opened it again for this.
    lose_at_server(response);
    return finish_refresh(fail(ENXIO, "the server had closed the device"));
  }
  wire::OpenResponse now = opened_;
  now.sectors = response->sectors;
  if (const auto shape = shape_of(now); !shape) return finish_refresh(fail(shape.error()));
  server_sectors_ = response->sectors;
  change_size(response->sectors);
}

void Device::lose_at_server(const Result<wire::OpenResponse>& opened) {
  log::warn("{} ({}): the server had closed it", node(), request_.device_path);
  session_.close_device(opened_.device_id, [] {});  // the id, which it keeps until then
  at_server_ = false;
  on_reopened(opened, [] {});
}

/// Of what the kernel knows, or is just being told: whatever it may ask for passes.
wire::OpenResponse Device::largest() const {
  wire::OpenResponse largest = opened_;
  largest.sectors = std::max<std::uint64_t>(opened_.sectors, changing_to_);
  return largest;
}

/// Of what the kernel knows, or will: where it is smaller, what lies behind fails anyway.
wire::OpenResponse Device::latest() const {
  wire::OpenResponse latest = opened_;
  if (changing_to_ != 0) latest.sectors = changing_to_;
  return latest;
}

void Device::change_size(std::uint64_t sectors) {
  if (sectors == opened_.sectors && !inherited_) {
    return finish_refresh(shape_of(opened_)->size_bytes);
  }
  changing_to_ = sectors;
  on_session_changed();  // a successor has to let pass what the kernel may ask for
  queues_->set_shape(*shape_of(largest()), [this, sectors, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    if (can_resize()) return tell_kernel(sectors);
    changing_to_ = 0;
    stale_size_ = true;
    on_session_changed();
    finish_refresh(fail(EBUSY, "the device is not open now"));
  });
}

void Device::tell_kernel(std::uint64_t sectors) {
  wire::OpenResponse now = opened_;
  now.sectors = sectors;
  const std::uint64_t size = shape_of(now)->size_bytes;
  telling_kernel_ = true;
  nbd_.resize(
      *index_, size, backend_of(request_),
      [this, sectors, size, alive = std::weak_ptr<bool>(alive_)](const Status& told) {
        if (alive.expired()) return;
        changing_to_ = 0;
        telling_kernel_ = false;
        const log::About about(session_.name(), node());
        if (!told) {
          last_error_ = describe(told.error());
          log::error("{} cannot be given {} bytes: {}", backend_of(request_), size, last_error_);
          on_session_changed();
          size_retry_ = control_.call_after(kSizeRetry, [this] { on_server_changed(); });
          return finish_refresh(fail(told.error()));
        }
        if (opened_.sectors != sectors) {
          log::info("/dev/nbd{} ({}) has {} bytes now", *index_, request_.device_path, size);
        }
        const bool changed = opened_.sectors != sectors;
        opened_.sectors = sectors;
        inherited_ = false;
        if (changed) tell(name_of(service_));
        on_session_changed();
        if (queues_ != nullptr) queues_->set_shape(*shape_of(opened_), [] {});
        finish_refresh(size);
      });
}

void Device::finish_refresh(const Result<std::uint64_t>& size) {
  refreshing_ = false;
  const bool again = stale_size_ && can_resize();
  if (size && again) return ask_size();
  for (Sized& done : std::exchange(refreshed_, {})) done(size);
  if (again) ask_size();
}

}  // namespace rnbd::client
