// SPDX-License-Identifier: Apache-2.0
#include "client/device.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include <fmt/format.h>

#include "client/left_behind.h"
#include "client/nbd_wire.h"
#include "common/assert.h"
#include "common/log.h"
#include "common/rnbd_names.h"

namespace rnbd::client {
namespace {

constexpr std::uint32_t kMaxNbdBlock = 4096;  ///< a page
/// Requests do not age: while a server is away they wait. Nor must the driver send one again on
/// another socket because it took long.
constexpr std::uint64_t kRequestTimeout = kNbdMaxTimeout;

/// Room for several requests of the largest size: AF_UNIX charges the sender.
constexpr int kSocketBuffer = 4 << 20;

std::uint64_t server_flags(const wire::OpenResponse& device, wire::AccessMode access,
                           std::size_t queues) {
  const bool writeback = (device.cache_policy & wire::kCacheWriteback) != 0;
  const bool fua = writeback && (device.cache_policy & wire::kCacheFua) != 0;
  std::uint64_t flags = kNbdHasFlags;
  if (access == wire::AccessMode::ReadOnly) flags |= kNbdReadOnly;
  if (writeback) flags |= kNbdSendFlush;
  if (fua) flags |= kNbdSendFua;
  if (device.max_discard_sectors != 0) flags |= kNbdSendTrim;
  if (device.max_write_zeroes_sectors != 0) flags |= kNbdSendWriteZeroes;
  if (queues > 1) flags |= kNbdCanMultiConn;
  return flags;
}

}  // namespace

std::string backend_of(const MapRequest& request) {
  return fmt::format("rnbd:{}/{}", request.session_name, request.device_path);
}

Result<DeviceShape> shape_of(const wire::OpenResponse& response) {
  if (response.header.type != static_cast<std::uint16_t>(wire::MessageType::OpenResponse)) {
    return fail(EPROTO, "the server answered OPEN with something else");
  }
  const std::uint32_t block = response.logical_block_size;
  if (!std::has_single_bit(block) || block < wire::kSectorSize || block > kMaxNbdBlock) {
    return fail(EINVAL, fmt::format("the device has blocks of {} bytes; NBD can have 512 to {}",
                                    block, kMaxNbdBlock));
  }
  const std::uint64_t sectors = response.sectors;
  const std::uint64_t size = sectors * wire::kSectorSize / block * block;
  if (size == 0 || sectors > INT64_MAX / wire::kSectorSize) {
    return fail(EINVAL, fmt::format("the device has {} sectors", sectors));
  }
  return DeviceShape{.size_bytes = size,
                     .block_size = block,
                     .max_discard_sectors = response.max_discard_sectors,
                     .discard_granularity = response.discard_granularity,
                     .max_write_zeroes_sectors = response.max_write_zeroes_sectors};
}

Status check_same_device(const wire::OpenResponse& before, const wire::OpenResponse& now) {
  const auto knows = [](const wire::OpenResponse& one) {
    return one.io_mode_mark == wire::kIoModeMark && one.disk_mark != wire::DiskMark{};
  };
  const bool known = knows(before) && knows(now);
  if (known && before.disk_mark != now.disk_mark) {
    return fail(ENXIO, "another disk came back under its name");
  }
  const bool smaller = !known && now.sectors < before.sectors;
  if (smaller || now.logical_block_size != before.logical_block_size) {
    return fail(ENXIO, fmt::format("it came back with {} sectors, blocks of {}; it had {} and {}",
                                   now.sectors + 0, now.logical_block_size + 0, before.sectors + 0,
                                   before.logical_block_size + 0));
  }
  return {};
}

Device::Device(RnbdSession& session, ControlContext& control, NbdDriver& nbd,
               DescriptorKeeper& keeper, std::string name, MapRequest request, Duration slow_io,
               Events& events, control::EventLog& log)
    : session_(session),
      control_(control),
      nbd_(nbd),
      keeper_(keeper),
      name_(std::move(name)),
      request_(std::move(request)),
      slow_io_(slow_io),
      events_(events),
      log_(log),
      slow_(control) {}

std::string Device::node() const {
  return state_ == DeviceState::Open || state_ == DeviceState::Detaching
             ? fmt::format("/dev/nbd{}", *index_)
             : std::string();
}

void Device::map(Mapped done) {
  session_.when_ready([this, done = std::move(done)](Status ready) mutable {
    if (!ready) {
      undo_map(ready.error(), std::move(done));
      return;
    }
    session_.open({request_.device_path, request_.access_mode, request_.io_mode},
                  [this, done = std::move(done)](Result<wire::OpenResponse> response) mutable {
                    if (!response) {
                      lost_on_the_way_ = response.error().code == ENOTCONN;
                      undo_map(response.error(), std::move(done));
                    } else {
                      on_opened(*response, std::move(done));
                    }
                  });
  });
}

void Device::on_opened(const wire::OpenResponse& response, Mapped done) {
  opened_ = response;
  server_sectors_ = response.sectors;
  at_server_ = true;
  const auto shape = shape_of(response);
  if (!shape) {
    undo_map(shape.error(), std::move(done));
    return;
  }
  if (opened_.io_mode_mark != wire::kIoModeMark &&
      request_.io_mode != wire::IoMode::ServerDefault) {
    log::warn("{}: the server does not know io_mode and does as it likes", request_.device_path);
  }
  auto kernels_ends = prepare(*shape);
  if (!kernels_ends) {
    undo_map(kernels_ends.error(), std::move(done));
    return;
  }
  attach(std::move(*kernels_ends), std::move(done));
}

/// Sockets, queues, and all of it kept. The answer is the kernel's ends.
Result<std::vector<UniqueFd>> Device::prepare(const DeviceShape& shape) {
  const std::size_t count =
      request_.input_mode == InputMode::SingleQueue ? 1 : session_.rtrs().queues();
  const BlockQueue::Config config = queue_config(shape);
  auto file = DeviceFile::create(static_cast<std::uint32_t>(count), config.journal_shape(),
                                 keeper_.has_keeper());
  if (!file) return fail(file.error());
  file_ = std::move(*file);
  if (Status kept = keep_record(); !kept) return fail(kept.error());
  if (Status kept = keeper_.keep(name_, file_->fd()); !kept) return fail(kept.error());
  std::vector<UniqueFd> ours;
  std::vector<UniqueFd> kernels;
  for (std::size_t i = 0; i < count; ++i) {
    auto pair = make_nbd_socket_pair(kSocketBuffer);
    if (!pair) return fail(pair.error());
    sockets_kept_ = i + 1;
    if (Status kept = keeper_.keep(socket_name(name_, i), pair->ours.get()); !kept) {
      return fail(kept.error());
    }
    ours.push_back(std::move(pair->ours));
    kernels.push_back(std::move(pair->kernels));
  }
  auto queues =
      DeviceQueues::create(session_.rtrs(), control_, std::move(ours), *file_, config, *this);
  if (!queues) return fail(queues.error());
  queues_ = std::move(*queues);
  return kernels;
}

BlockQueue::Config Device::queue_config(const DeviceShape& shape) const {
  return {.shape = shape,
          .device_id = opened_.device_id,
          .permit_ids = session_.rtrs().queue_depth(),
          .slow_io = slow_io_};
}

Status Device::keep_record() {
  rtrs::ClientSession& session = session_.rtrs();
  return file_->write({.session = session.settings(),
                       .parameters = {.queue_depth = session.queue_depth(),
                                      .max_io_size = session.queue(0).max_io_size()},
                       .memory = session_.memory_name(),
                       .request = request_,
                       .opened = latest(),
                       .index = index_});
}

void Device::forget() {
  if (file_) keeper_.forget(name_);
  while (sockets_kept_ > 0) keeper_.forget(socket_name(name_, --sockets_kept_));
}

Status Device::resume(DeviceFile file, const DeviceRecord& record, std::vector<UniqueFd> sockets) {
  file_ = std::move(file);
  sockets_kept_ = sockets.size();
  opened_ = record.opened;
  server_sectors_ = opened_.sectors;
  inherited_ = true;
  index_ = record.index;
  const auto shape = shape_of(opened_);
  if (!shape) return fail(shape.error());
  BlockQueue::Config config = queue_config(*shape);
  config.device_id = kNoDevice;  // until reopen()
  if (config.journal_shape() != file_->shape()) {
    return fail(EPROTO, "its journals do not fit its session");
  }
  auto queues =
      DeviceQueues::create(session_.rtrs(), control_, std::move(sockets), *file_, config, *this);
  if (!queues) return fail(queues.error());
  queues_ = std::move(*queues);
  state_ = DeviceState::Open;
  session_.was_open(opened_.device_id);
  session_.add(*this);
  set_service(Service::Queueing);
  queues_->start();
  const log::About about(session_.name(), node());
  log::info("{} of session {} goes on as {}", request_.device_path, session_.name(), node());
  return {};
}

void Device::drain(Executor::Task done) {
  drained_ = true;
  if (queues_ != nullptr) {
    queues_->drain(std::move(done));
  } else {
    control_.post(std::move(done));
  }
}

void Device::count(std::move_only_function<void(const BlockQueueCounters&)> done) {
  if (queues_ != nullptr) {
    queues_->count(std::move(done));
  } else {
    done({});
  }
}

void Device::attach(std::vector<UniqueFd> sockets, Mapped done) {
  state_ = DeviceState::Attaching;
  session_.add(*this);
  queues_->start();
  nbd_.attach(nbd_config(), std::move(sockets), max_request(),
              [this, done = std::move(done)](Result<std::uint32_t> index) mutable {
                on_attached(std::move(index), std::move(done));
              });
}

NbdDeviceConfig Device::nbd_config() const {
  const std::uint32_t block = opened_.logical_block_size;
  return {.index = request_.device_index,
          .size_bytes = opened_.sectors * wire::kSectorSize / block * block,
          .block_size = block,
          .server_flags = server_flags(opened_, request_.access_mode, queues_->size()),
          .timeout_s = kRequestTimeout,
          .backend = backend_of(request_)};
}

std::uint32_t Device::max_request() const {
  const rtrs::SessionQueue& queue = session_.rtrs().queue(0);
  return std::min(queue.max_io_size(), kNbdMaxPayload) / kMaxNbdBlock * kMaxNbdBlock;
}

void Device::on_attached(Result<std::uint32_t> index, Mapped done) {
  if (!index) {
    undo_map(index.error(), std::move(done));
    return;
  }
  index_ = *index;
  state_ = DeviceState::Open;
  if (Status kept = keep_record(); !kept) log::error("{}: {}", node(), describe(kept.error()));
  if (!given_up_.empty()) {
    unmap(true, [this, done = std::move(done)](const Status& unmapped) mutable {
      lost_on_the_way_ = unmapped.has_value();
      done(fail(ENOTCONN, fmt::format("it was lost while it was being attached: {}", given_up_)));
    });
    return;
  }
  const log::About about(session_.name(), node());
  log::info("{} of session {} is {}", request_.device_path, session_.name(), node());
  tell(name_of(service_));
  done(node());
  on_server_changed();  // what was told while it was being attached is not known
}

void Device::undo_map(Error error, Mapped done) {
  take_apart([this, error = std::move(error), done = std::move(done)]() mutable {
    done(fail(std::move(error)));
    become_gone();
  });
}

void Device::unmap(bool force, Unmapped done) {
  if (force) {
    unmap_by_force(std::move(done));
  } else if (state_ != DeviceState::Open) {
    done(fail(EBUSY, fmt::format("{} is being mapped or unmapped", request_.device_path)));
  } else if (!session_.rtrs().connected()) {
    done(fail(ENOTCONN, fmt::format("{} cannot be flushed, its server is away\n"
                                    "--force gives up what is not on the server",
                                    node())));
  } else {
    detach(false, std::move(done));
  }
}

void Device::unmap_by_force(Unmapped done) {
  if (state_ != DeviceState::Open && state_ != DeviceState::Detaching) {
    done(fail(EBUSY, fmt::format("{} is being mapped", request_.device_path)));
    return;
  }
  const bool other_under_way = state_ == DeviceState::Detaching;
  state_ = DeviceState::Detaching;
  if (other_under_way) {
    // Fails as soon as what it waits for has failed, and hands over to us then.
    forcing_.push_back(std::move(done));
    if (queues_ != nullptr) queues_->fail_all([] {});
    return;
  }
  // First what is in flight, or the driver would wait for it.
  queues_->fail_all([this, done = std::move(done)]() mutable { detach(true, std::move(done)); });
}

void Device::detach(bool force, Unmapped done) {
  state_ = DeviceState::Detaching;
  nbd_.detach(*index_, force, [this, done = std::move(done)](Status detached) mutable {
    on_detached(std::move(detached), std::move(done));
  });
}

void Device::on_detached(Status detached, Unmapped done) {
  if (detached) {
    take_apart([this, done = std::move(done)]() mutable {
      const log::About about(session_.name(), node());
      log::info("/dev/nbd{} is unmapped", *index_);
      done({});
      for (Unmapped& forced : std::exchange(forcing_, {})) forced({});
      become_gone();
    });
    return;
  }
  state_ = DeviceState::Open;
  if (stale_size_) on_server_changed();
  done(std::move(detached));
  auto forcing = std::exchange(forcing_, {});
  if (forcing.empty()) return catch_up_with_service();
  unmap_by_force([forcing = std::move(forcing)](const Status& status) mutable {
    for (Unmapped& forced : forcing) forced(status);
  });
}

void Device::take_apart(Executor::Task done) {
  retry_.reset();
  size_retry_.reset();
  patience_.reset();
  forget();
  auto close_at_server = [this, done = std::move(done)]() mutable {
    queues_.reset();
    session_.remove(*this);
    for (Sized& waiting : std::exchange(refreshed_, {})) {
      waiting(fail(EBUSY, fmt::format("{} is being unmapped", request_.device_path)));
    }
    if (std::exchange(at_server_, false)) {
      session_.close_device(opened_.device_id, std::move(done));
    } else {
      control_.post(std::move(done));
    }
  };
  if (queues_ == nullptr) {
    close_at_server();
    return;
  }
  queues_->destroy([this, close_at_server = std::move(close_at_server)]() mutable {
    // A question that reached the server behind CLOSE would open the device again.
    if (asked_) {
      after_answer_ = std::move(close_at_server);
    } else {
      close_at_server();
    }
  });
}

void Device::become_gone() {
  if (state_ == DeviceState::Detaching) tell("unmapped");
  state_ = DeviceState::Gone;
  events_.on_device_gone(*this);
}

void Device::on_session_lost(const std::string& why) {
  retry_.reset();
  at_server_ = false;
  last_error_ = why;
  set_service(Service::Queueing);
  if (state_ != DeviceState::Attaching) return;
  // The kernel looks for partitions while it is being told: it must not wait for a server that may
  // never come back.
  given_up_ = why;
  queues_->fail_all([] {});
}

void Device::on_session_changed() {
  if (Status kept = keep_record(); !kept) log::error("{}: {}", node(), describe(kept.error()));
}

void Device::on_disconnect_request(BlockQueue&) {
  // The socket's end follows.
}

void Device::on_socket_ended(BlockQueue&, const Error& error) {
  control_.post([this, error] {
    if (state_ == DeviceState::Attaching) {
      given_up_ = describe(error);
    }
    if (state_ != DeviceState::Open) return;  // we are taking it apart ourselves
    const log::About about(session_.name(), node());
    log::warn("{} was disconnected by somebody else: {}", node(), error.message);
    unmap(true, [](const Status&) {});
  });
}

control::DeviceEntry Device::entry() const {
  const bool knows_mode = opened_.io_mode_mark == wire::kIoModeMark;
  const auto mode = knows_mode ? static_cast<wire::IoMode>(opened_.io_mode) : request_.io_mode;
  const std::uint32_t block = std::max<std::uint32_t>(opened_.logical_block_size, 1);
  return {.device = node(),
          .session = request_.session_name,
          .mapping_path = request_.device_path,
          .state = std::string(name_of(service_)),
          .access_mode = std::string(wire::name_of(request_.access_mode)),
          .io_mode = std::string(wire::name_of(mode)),
          .size_bytes = opened_.sectors * wire::kSectorSize / block * block,
          .state_seconds = static_cast<std::uint64_t>(
              std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - since_).count()),
          .in_flight = queues_ == nullptr ? 0 : queues_->in_flight(),
          .server_size_bytes = server_sectors_ * wire::kSectorSize / block * block,
          .last_error = last_error_};
}

}  // namespace rnbd::client
