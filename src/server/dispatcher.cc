// SPDX-License-Identifier: Apache-2.0
#include "server/dispatcher.h"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/countdown.h"

namespace rnbd::server {
namespace {

// The last field that every client sends; older ones end before the priority.
constexpr std::size_t kShortestIo = offsetof(wire::Io, priority);

std::string_view name_of(StoreOperation::Kind kind) {
  switch (kind) {
    case StoreOperation::Kind::Read:
      return "read";
    case StoreOperation::Kind::Write:
      return "write";
    case StoreOperation::Kind::Flush:
      return "flush";
    case StoreOperation::Kind::Discard:
      return "discard";
    case StoreOperation::Kind::WriteZeroes:
      return "write_zeroes";
  }
  return "write_zeroes";
}

std::string details_of(const SlowDiskRequest& request) {
  return fmt::format("what={} offset={} length={} total_ms={} disk_ms={} error={}",
                     name_of(request.kind), request.offset, request.length, in_ms(request.taken),
                     in_ms(request.disk), request.error);
}

}  // namespace

Dispatcher::Dispatcher(const std::vector<StoreWorker>& workers, ControlContext& control,
                       rtrs::ChunkTable& chunks, std::uint32_t queue_depth, ServiceHandler& service,
                       Duration slow_io)
    : control_(control),
      chunks_(chunks),
      service_(service),
      slow_io_(slow_io),
      slow_(limits::kMaxDevicesPerSession),
      requests_(queue_depth) {
  for (const StoreWorker& worker : workers) {
    Lane& lane = lanes_.emplace_back();
    lane.worker = worker;
    lane.devices.resize(limits::kMaxDevicesPerSession);
    lane.waiting_for_idle.resize(limits::kMaxDevicesPerSession);
  }
}

void Dispatcher::start() {
  on_each_lane(
      [this](Lane& lane) {
        lane.buffer_slot = lane.worker.store->register_buffer(chunks_.memory());
      },
      [] {});
}

void Dispatcher::open_device(std::uint32_t device_id, const Backend& backend, Executor::Task done) {
  if (slow_[device_id] == nullptr) slow_[device_id] = std::make_unique<SlowIoLog>(control_);
  on_each_lane(
      [device_id, slow_io = slow_io_, writable = backend.writable(), target = backend.target(),
       limits = backend.limits()](Lane& lane) {
        WorkerDevice& device = lane.devices[device_id];
        RNBD_ASSERT(!device.open && device.in_flight == 0);
        device = {.open = true,
                  .writable = writable,
                  .target = target,
                  .limits = limits,
                  .latencies = std::make_unique<DiskLatencies>(),
                  .slow_io = slow_io};
        device.target.file_slot = lane.worker.store->register_file(device.target.fd);
      },
      std::move(done));
}

void Dispatcher::resize_device(std::uint32_t device_id, std::uint64_t sectors,
                               Executor::Task done) {
  on_each_lane(
      [device_id, sectors](Lane& lane) { lane.devices[device_id].limits.sectors = sectors; },
      std::move(done));
}

void Dispatcher::count(Counted done) {
  counting_.push_back(std::move(done));
  if (counting_.size() > 1) return;  // what is on its way answers this one too
  on_each_lane(
      [](Lane& lane) {
        lane.counted.clear();
        for (std::uint32_t id = 0; id < lane.devices.size(); ++id) {
          const WorkerDevice& device = lane.devices[id];
          if (!device.open) continue;
          lane.counted.push_back({id, device.in_flight, device.counters, *device.latencies});
        }
      },
      [this] {
        std::vector<DeviceCount> all;
        for (const Lane& lane : lanes_) {
          all.insert(all.end(), lane.counted.begin(), lane.counted.end());
        }
        for (Counted& waiting : std::exchange(counting_, {})) waiting(all);
      });
}

void Dispatcher::close_device(std::uint32_t device_id, Executor::Task done) {
  const Countdown one_done(lanes_.size(), std::move(done));
  for (Lane& lane : lanes_) {
    lane.worker.worker->post([this, &lane, device_id, one_done] {
      lane.devices[device_id].open = false;
      lane.waiting_for_idle[device_id] = one_done;
      if (lane.devices[device_id].in_flight == 0) leave(lane, device_id);
    });
  }
}

void Dispatcher::on_device_idle(std::size_t worker, std::uint32_t device_id) {
  Lane& lane = lanes_[worker];
  if (!lane.devices[device_id].open) leave(lane, device_id);
}

/// On the request's worker.
void Dispatcher::on_slow_request(std::uint32_t device_id, const SlowDiskRequest& request) {
  if (!slow_[device_id]->pass()) return;
  control_.post([this, device_id, request] {
    slow_[device_id]->tell(service_.subject(device_id), details_of(request));
  });
}

void Dispatcher::leave(Lane& lane, std::uint32_t device_id) {
  if (!lane.waiting_for_idle[device_id]) return;
  WorkerDevice& device = lane.devices[device_id];
  lane.worker.store->unregister_file(std::exchange(device.target.file_slot, kNoSlot));
  control_.post(std::exchange(lane.waiting_for_idle[device_id], nullptr));
}

void Dispatcher::stop(Executor::Task done) {
  on_each_lane(
      [](Lane& lane) {
        for (WorkerDevice& device : lane.devices) {
          RNBD_ASSERT(device.in_flight == 0);
          if (device.open) lane.worker.store->unregister_file(device.target.file_slot);
        }
        lane.worker.store->unregister_buffer(lane.buffer_slot);
      },
      std::move(done));
}

void Dispatcher::on_each_lane(const std::function<void(Lane&)>& step, Executor::Task done) {
  const Countdown one_done(lanes_.size(), std::move(done));
  for (Lane& lane : lanes_) {
    lane.worker.worker->post([this, &lane, step, one_done] {
      step(lane);
      control_.post(one_done);
    });
  }
}

void Dispatcher::on_request(rtrs::ServerRequest& request) {
  const std::span<const std::byte> message = request.user_message();
  if (message.size() < sizeof(wire::Header)) {
    request.respond(EINVAL);
    return;
  }
  const auto type = static_cast<wire::MessageType>(load<wire::Header>(message).type + 0);
  switch (type) {
    case wire::MessageType::Io:
      on_io(request);
      break;
    case wire::MessageType::SessionInfo:
    case wire::MessageType::Open:
    case wire::MessageType::Close:
      on_service(request);
      break;
    case wire::MessageType::SessionInfoResponse:
    case wire::MessageType::OpenResponse:
    default:
      request.respond(EINVAL);
      break;
  }
}

void Dispatcher::on_io(rtrs::ServerRequest& request) {
  const std::span<const std::byte> bytes = request.user_message();
  if (bytes.size() < kShortestIo) {
    request.respond(EINVAL);
    return;
  }
  wire::Io message;
  std::ranges::copy(bytes.first(std::min(bytes.size(), sizeof message)),
                    std::as_writable_bytes(std::span(&message, 1)).begin());
  Lane& lane = lanes_[request.worker()];
  const std::uint32_t device_id = message.device_id;
  if (device_id >= lane.devices.size() || !lane.devices[device_id].open) {
    request.respond(ENOTCONN);
    return;
  }
  requests_[request.chunk()].start(request, message, lane.devices[device_id], lane.worker,
                                   lane.buffer_slot, *this);
}

void Dispatcher::on_service(rtrs::ServerRequest& request) {
  const std::span<const std::byte> bytes = request.user_message();
  Executor* const worker = lanes_[request.worker()].worker.worker;
  control_.post([this, &request, worker,
                 message = std::vector<std::byte>(bytes.begin(), bytes.end())]() mutable {
    service_.on_service_message(std::move(message), [&request, worker](ServiceAnswer answer) {
      worker->post([&request, answer = std::move(answer)] {
        // All of what will be sent is written: what lay in the chunk before is nobody's business.
        const std::span<std::byte> data = request.data();
        const std::size_t length = std::min(data.size(), answer.body.size());
        if (request.direction() == rtrs::Direction::Read) {
          std::ranges::copy(std::span(answer.body).first(length), data.begin());
          std::ranges::fill(data.subspan(length), std::byte{0});
        }
        request.respond(length < answer.body.size() && answer.error == 0 ? EINVAL : answer.error);
      });
    });
  });
}

}  // namespace rnbd::server
