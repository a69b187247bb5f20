// SPDX-License-Identifier: Apache-2.0
#include "server/disk_request.h"

#include <cerrno>

namespace rnbd::server {
namespace {

using Kind = StoreOperation::Kind;

struct Rule {
  Kind kind;
  bool writes;
  bool has_data;
  std::uint32_t max_sectors;  ///< 0: the disk cannot do it
};

std::expected<Rule, int> rule_for(const wire::Io& message, const WorkerDevice& device) {
  constexpr std::uint32_t kAny = UINT32_MAX;
  const std::uint32_t size = message.size;
  switch (static_cast<wire::Operation>(message.rw & wire::kOperationMask)) {
    case wire::Operation::Read:
      return Rule{Kind::Read, false, true, kAny};
    case wire::Operation::Write:
      // What the block layer makes of an empty write with a flush in front of it.
      if (size == 0) return Rule{Kind::Flush, false, false, kAny};
      return Rule{Kind::Write, true, true, kAny};
    case wire::Operation::Flush:
      return Rule{Kind::Flush, false, false, kAny};
    case wire::Operation::Discard:
      return Rule{Kind::Discard, true, false, device.limits.max_discard_sectors};
    case wire::Operation::WriteZeroes:
      return Rule{Kind::WriteZeroes, true, false, device.limits.max_write_zeroes_sectors};
    case wire::Operation::SecureErase:
      return std::unexpected(EOPNOTSUPP);
  }
  return std::unexpected(EINVAL);
}

int check_range(const wire::Io& message, const DiskLimits& limits) {
  const std::uint64_t sector = message.sector;
  const std::uint32_t size = message.size;
  if (size == 0 || size % limits.logical_block_size != 0 ||
      sector * wire::kSectorSize % limits.logical_block_size != 0) {
    return EINVAL;
  }
  const std::uint64_t count = size / wire::kSectorSize;
  if (sector > limits.sectors || count > limits.sectors - sector) return EIO;
  return 0;
}

}  // namespace

std::expected<StoreOperation, int> plan_operation(const wire::Io& message,
                                                  rtrs::Direction direction,
                                                  std::span<std::byte> data,
                                                  const WorkerDevice& device) {
  const auto rule = rule_for(message, device);
  if (!rule) return std::unexpected(rule.error());
  // Data that the message does not speak of would be dropped in silence.
  if (!data.empty() && data.size() != message.size) return std::unexpected(EINVAL);
  if (rule->kind == Kind::Flush) return StoreOperation{.kind = Kind::Flush};
  if (rule->writes && !device.writable) return std::unexpected(EROFS);
  if (rule->max_sectors == 0) return std::unexpected(EOPNOTSUPP);
  if (const int error = check_range(message, device.limits); error != 0) {
    return std::unexpected(error);
  }
  const std::uint32_t size = message.size;
  if (rule->has_data) {
    // The transport moved as many bytes as its own lengths say; the message has to agree.
    const auto expected = rule->kind == Kind::Read ? rtrs::Direction::Read : rtrs::Direction::Write;
    if (direction != expected || size != data.size()) return std::unexpected(EINVAL);
  } else if (size / wire::kSectorSize > rule->max_sectors) {
    return std::unexpected(EINVAL);
  }
  return StoreOperation{.kind = rule->kind,
                        .fua = (message.rw & wire::kFlagFua) != 0,
                        .offset = message.sector * wire::kSectorSize,
                        .length = size,
                        .data = rule->has_data ? data.data() : nullptr};
}

void DiskRequest::start(rtrs::ServerRequest& request, const wire::Io& message, WorkerDevice& device,
                        const StoreWorker& worker, int buffer_slot, Events& events) {
  auto operation = plan_operation(message, request.direction(), request.data(), device);
  if (!operation) {
    ++device.counters.errors;
    request.respond(operation.error());
    return;
  }
  request_ = &request;
  device_ = &device;
  device_id_ = message.device_id;
  events_ = &events;
  kind_ = operation->kind;
  offset_ = operation->offset;
  length_ = operation->length;
  worker_ = worker.worker;
  begun_ = worker_->now();
  operation->buffer_slot = buffer_slot;
  ++device.in_flight;
  count(*operation);
  worker.store->submit(*operation, device.target, *this);
}

void DiskRequest::on_store_done(int error) {
  if (device_->latencies != nullptr) time(error);
  if (error != 0) ++device_->counters.errors;
  const bool idle = --device_->in_flight == 0;
  Events* const listener = events_;
  const std::size_t worker = request_->worker();
  const std::uint32_t device_id = device_id_;
  // The answer may be followed by the chunk's next request at once: nothing of this one is used
  // behind it.
  request_->respond(error);
  if (idle) listener->on_device_idle(worker, device_id);
}

void DiskRequest::count(const StoreOperation& operation) {
  DiskCounters& counters = device_->counters;
  switch (operation.kind) {
    case Kind::Read:
      ++counters.reads;
      counters.read_bytes += operation.length;
      break;
    case Kind::Write:
      ++counters.writes;
      counters.write_bytes += operation.length;
      break;
    case Kind::Flush:
      ++counters.flushes;
      break;
    case Kind::Discard:
      ++counters.discards;
      break;
    case Kind::WriteZeroes:
      ++counters.zeroes;
      break;
  }
}

/// The answer is put behind others in this same round, so that now is when it leaves.
void DiskRequest::time(int error) {
  DiskLatencies& latencies = *device_->latencies;
  const auto kind = kind_ == Kind::Read    ? &IoLatencies::read
                    : kind_ == Kind::Write ? &IoLatencies::write
                                           : &IoLatencies::other;
  const TimePoint now = worker_->now();
  const Duration taken = now - request_->arrived();
  (latencies.server.*kind).add(taken);
  (latencies.disk.*kind).add(now - begun_);
  if (taken < device_->slow_io) return;
  events_->on_slow_request(device_id_, {.kind = kind_,
                                        .offset = offset_,
                                        .length = length_,
                                        .error = error,
                                        .taken = taken,
                                        .disk = now - begun_});
}

}  // namespace rnbd::server
