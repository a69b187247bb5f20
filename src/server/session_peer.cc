// SPDX-License-Identifier: Apache-2.0
#include "server/session_peer.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "common/log.h"

namespace rnbd::server {
namespace {

template <typename T>
ServiceAnswer answer_with(const T& message) {
  const auto bytes = std::as_bytes(std::span(&message, 1));
  return {.error = 0, .body = {bytes.begin(), bytes.end()}};
}

template <typename T>
constexpr T saturate(std::uint64_t value) {
  return static_cast<T>(std::min<std::uint64_t>(value, std::numeric_limits<T>::max()));
}

}  // namespace

SessionPeer::SessionPeer(std::uint64_t id, rtrs::ServerSession& session,
                         const std::vector<StoreWorker>& workers, ControlContext& control,
                         Exports& exports, Duration slow_io)
    : id_(id),
      session_(session),
      exports_(exports),
      dispatcher_(workers, control, session.chunks(), session.parameters().queue_depth, *this,
                  slow_io) {
  dispatcher_.start();
}

void SessionPeer::stop(Executor::Task done) {
  stopping_ = true;
  if (!served_.empty()) session_.expect_return();
  dispatcher_.stop([this, done = std::move(done)]() mutable {
    exports_.close_session(id_);
    done();
  });
}

void SessionPeer::resize(const Export& entry) {
  if (stopping_) return;
  dispatcher_.resize_device(entry.device_id, entry.backend->limits().sectors,
                            [this] { session_.raise_generation(); });
}

void SessionPeer::count(Dispatcher::Counted done) {
  if (stopping_) return done({});
  dispatcher_.count(std::move(done));
}

void SessionPeer::on_service_message(std::vector<std::byte> message, Answer answer) {
  switch (static_cast<wire::MessageType>(load<wire::Header>(message).type + 0)) {
    case wire::MessageType::SessionInfo:
      on_session_info(message, std::move(answer));
      break;
    case wire::MessageType::Open:
      on_open(message, std::move(answer));
      break;
    case wire::MessageType::Close:
      on_close(message, std::move(answer));
      break;
    case wire::MessageType::SessionInfoResponse:
    case wire::MessageType::OpenResponse:
    case wire::MessageType::Io:
    default:
      answer({.error = EINVAL});
      break;
  }
}

SlowIoLog::Subject SessionPeer::subject(std::uint32_t device_id) {
  const Export* const entry = exports_.find(id_, device_id);
  return {.session = session_.name(), .device = entry == nullptr ? "-" : entry->device_path};
}

void SessionPeer::on_session_info(std::span<const std::byte> message, Answer answer) {
  if (message.size() < sizeof(wire::SessionInfo)) {
    answer({.error = EINVAL});
    return;
  }
  wire::SessionInfo response;
  response.header = wire::header(wire::MessageType::SessionInfoResponse);
  response.version = std::min(load<wire::SessionInfo>(message).version, wire::kRnbdMajor);
  answer(answer_with(response));
}

void SessionPeer::on_open(std::span<const std::byte> message, Answer answer) {
  if (message.size() < sizeof(wire::Open)) {
    answer({.error = EINVAL});
    return;
  }
  const auto open = load<wire::Open>(message);
  const auto end = std::ranges::find(open.device_name, '\0');
  const std::string_view name(open.device_name.begin(), end);
  // Without the mark the byte is whatever a kernel client left there.
  const bool has_mode = open.io_mode_mark == wire::kIoModeMark;
  const auto found = end == open.device_name.end()
                         ? Result<Export*>(fail(EINVAL, "unterminated device name"))
                         : exports_.open({id_, session_.name()}, name, open.access_mode,
                                         has_mode ? open.io_mode : std::uint8_t{0});
  const log::About about(session_.name(), found ? (*found)->device_path : std::string(name));
  if (!found) {
    log::warn("session {}: cannot open {}: {}", session_.name(), name, describe(found.error()));
    answer({.error = found.error().code});
    return;
  }
  const Export& entry = **found;
  const std::uint32_t device_id = entry.device_id;
  if (const auto waiting = opening_.find(device_id); waiting != opening_.end()) {
    waiting->second.push_back(std::move(answer));
    return;
  }
  if (served_.contains(device_id)) {
    answer(describe_device(device_id));
    return;
  }
  log::info("session {}: {} opened as {} ({})", session_.name(), entry.device_path, name,
            device_id);
  opening_[device_id].push_back(std::move(answer));
  dispatcher_.open_device(device_id, *entry.backend,
                          [this, device_id] { on_device_ready(device_id); });
}

void SessionPeer::on_device_ready(std::uint32_t device_id) {
  auto waiting = opening_.extract(device_id);
  if (closing_.contains(device_id)) {
    begin_close(device_id);
    for (Answer& answer : waiting.mapped()) answer({.error = ENOTCONN});
    return;
  }
  served_.insert(device_id);
  session_.mark_served();
  for (Answer& answer : waiting.mapped()) answer(describe_device(device_id));
}

ServiceAnswer SessionPeer::describe_device(std::uint32_t device_id) {
  const Export* const entry = exports_.find(id_, device_id);
  if (entry == nullptr || !entry->backend) return {.error = ENOTCONN};
  return answer_with(open_response(*entry, session_.parameters().max_io_size));
}

void SessionPeer::on_close(std::span<const std::byte> message, Answer answer) {
  if (message.size() < sizeof(wire::Close)) {
    answer({.error = EINVAL});
    return;
  }
  const std::uint32_t device_id = load<wire::Close>(message).device_id;
  if (const auto waiting = closing_.find(device_id); waiting != closing_.end()) {
    waiting->second.clients.push_back(std::move(answer));
    return;
  }
  if (served_.erase(device_id) == 0) {
    // Closing what is not open has always been fine. An id that was closed by force is free now.
    const Export* const entry = exports_.find(id_, device_id);
    if (entry != nullptr && entry->state == ExportState::Closed) exports_.close(id_, device_id);
    answer({});
    return;
  }
  const Export& entry = *exports_.find(id_, device_id);
  const log::About about(session_.name(), entry.device_path);
  log::info("session {}: {} closed", session_.name(), entry.mapping_path);
  closing_[device_id].clients.push_back(std::move(answer));
  begin_close(device_id);
}

void SessionPeer::begin_close(std::uint32_t device_id) {
  exports_.begin_close(id_, device_id);
  dispatcher_.close_device(device_id, [this, device_id] { on_device_idle(device_id); });
}

void SessionPeer::force_close(std::uint32_t device_id, Executor::Task done) {
  const auto waiting = closing_.find(device_id);
  const bool opening = opening_.contains(device_id);
  const bool served = served_.erase(device_id) != 0;
  if (stopping_ || (!served && !opening && waiting == closing_.end())) return done();
  Closing& closing = closing_[device_id];
  closing.administrators.push_back(std::move(done));
  if (opening) closing.refused = true;
  if (served) begin_close(device_id);
}

void SessionPeer::on_device_idle(std::uint32_t device_id) {
  auto waiting = closing_.extract(device_id);
  const bool by_force = waiting.mapped().clients.empty();
  if (by_force) exports_.force_close(id_, device_id);
  if (by_force && !waiting.mapped().refused) {
    session_.raise_generation();
  } else {
    exports_.close(id_, device_id);
  }
  for (Answer& answer : waiting.mapped().clients) answer({});
  for (Executor::Task& done : waiting.mapped().administrators) done();
}

wire::OpenResponse open_response(const Export& entry, std::uint32_t max_io_size) {
  const DiskLimits& limits = entry.backend->limits();
  wire::OpenResponse response;
  response.header = wire::header(wire::MessageType::OpenResponse);
  response.device_id = entry.device_id;
  response.sectors = limits.sectors;
  response.max_hw_sectors = max_io_size / wire::kSectorSize;
  response.max_write_zeroes_sectors = limits.max_write_zeroes_sectors;
  response.max_discard_sectors = limits.max_discard_sectors;
  response.discard_granularity = limits.discard_granularity;
  response.discard_alignment = limits.discard_alignment;
  response.physical_block_size = saturate<std::uint16_t>(limits.physical_block_size);
  response.logical_block_size = saturate<std::uint16_t>(limits.logical_block_size);
  response.max_segments = 128;
  response.secure_discard = saturate<std::uint16_t>(limits.secure_discard_sectors);
  response.cache_policy = limits.cache_policy;
  response.io_mode = static_cast<std::uint8_t>(entry.io_mode);
  response.io_mode_mark = wire::kIoModeMark;
  for (std::size_t i = 0; i < response.disk_mark.size(); ++i) {
    response.disk_mark[i] = static_cast<std::uint8_t>(entry.mark >> 8 * i);
  }
  return response;
}

}  // namespace rnbd::server
