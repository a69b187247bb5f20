// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/server_connection.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include <fmt/format.h>

#include "common/assert.h"

namespace rnbd::rtrs {

using transport::LocalMemory;
using transport::WorkKind;

namespace {

constexpr std::uint32_t kNotWaiting = UINT32_MAX;

}  // namespace

void ServerRequest::respond(int error) { connection_->respond(*this, error); }

std::size_t ServerRequest::worker() const { return connection_->worker_index(); }

ServerConnection::ServerConnection(std::uint16_t cid, std::size_t worker_index,
                                   WorkerContext& worker, Executor& control,
                                   ConnectionEvents& events, ServerPathView& path)
    : Connection(cid, worker, control, events, path.beats),
      worker_index_(worker_index),
      path_(path),
      waiting_(path.parameters.queue_depth, kNotWaiting),
      stages_(path.parameters.queue_depth),
      held_(path.parameters.queue_depth) {
  stalled_.reserve(path.parameters.queue_depth);
  resuming_.reserve(path.parameters.queue_depth);
  answered_.reserve(path.parameters.queue_depth);
}

void ServerConnection::on_immediate(Immediate immediate, bool by_send, std::span<const std::byte>) {
  if (by_send) {
    fail_connection({EPROTO, "a client's immediate came by send"});
    return;
  }
  // Not even a heartbeat: its answer would go out before INFO_RSP, and many could fill the queue
  // that INFO_RSP needs.
  if (!path_.connected.load(std::memory_order_acquire)) {
    fail_connection({EPROTO, "an immediate before INFO_RSP"});
    return;
  }
  switch (immediate.type()) {
    case ImmediateType::Request:
      on_request(ChunkOffset::unpack(immediate.payload(), path_.parameters.queue_depth));
      break;
    case ImmediateType::Heartbeat:
      if (cid() == 0 && path_.heartbeat != nullptr) path_.heartbeat->on_asked(worker().now());
      send_heartbeat(ImmediateType::HeartbeatAck);
      break;
    case ImmediateType::HeartbeatAck:
      break;  // it was counted as an arrival
    case ImmediateType::Response:
    case ImmediateType::ResponseInvalidated:
    default:
      fail_connection({EPROTO, fmt::format("immediate {:#010x} from a client", immediate.value())});
      break;
  }
}

void ServerConnection::send_heartbeat(ImmediateType type) {
  send_immediate(Immediate(type, path_.generation->load(std::memory_order_relaxed)));
}

void ServerConnection::on_request(ChunkOffset target) {
  if (target.chunk >= path_.parameters.queue_depth ||
      target.offset + sizeof(WriteMessage) > path_.parameters.chunk_size()) {
    fail_connection(
        {EPROTO, fmt::format("a request at {} of chunk {}", target.offset, target.chunk)});
    return;
  }
  using Claim = ChunkTable::Claim;
  const Claim claim = path_.ours[target.chunk].load(std::memory_order_relaxed)
                          ? Claim::Refused
                          : path_.chunks->claim(target.chunk, *this);
  switch (claim) {
    case Claim::Taken:
      count_in_flight(+1);
      take(target.chunk, target.offset);
      break;
    case Claim::Waiting:
      // Its first copy, from another path, is still being executed: were both to run, the first
      // could end last, behind what the client wrote after the second was answered.
      count_in_flight(+1);
      waiting_[target.chunk] = target.offset;
      break;
    case Claim::Refused:
      fail_connection(
          {EPROTO, fmt::format("a request in chunk {}, which is still in use", target.chunk)});
      break;
  }
}

void ServerConnection::take(std::uint32_t chunk, std::uint32_t offset) {
  path_.ours[chunk].store(true, std::memory_order_relaxed);
  ServerRequest& request = path_.chunks->request(chunk);
  request.connection_ = this;
  request.message_offset_ = offset;
  request.arrived_ = worker().now();
  if (Status parsed = parse(request); !parsed) {
    fail_connection(parsed.error());
    release(request);
    return;
  }
  // The messages have been copied; the peer's key has to be dead if the disk uses the chunk.
  const bool exposed = !request.data_.empty();
  stages_[chunk] = path_.parameters.new_key && exposed ? Stage::RevokeKey : Stage::Run;
  advance(request);
}

void ServerConnection::hand_over(std::uint32_t chunk) {
  worker().post([this, chunk] { on_handed_over(chunk); });
}

void ServerConnection::on_handed_over(std::uint32_t chunk) {
  take(chunk, std::exchange(waiting_[chunk], kNotWaiting));
}

void ServerConnection::advance(ServerRequest& request) {
  held_[request.chunk_] = false;
  if (failed()) {
    release(request);
    return;
  }
  switch (stages_[request.chunk_]) {
    case Stage::RevokeKey:
      revoke_key(request);
      break;
    case Stage::Run:
      path_.handler->on_request(request);
      break;
    case Stage::Answer:
      post_answer(request);
      break;
  }
}

void ServerConnection::revoke_key(ServerRequest& request) {
  held_[request.chunk_] = true;
  if (!chain().has_room(kWorkPerRequest)) {
    stalled_.push_back(request.chunk_);
    return;
  }
  // Run when its completion says that the key is dead: from then on no late write of the peer can
  // reach the chunk.
  stages_[request.chunk_] = Stage::Run;
  chain().add_signalled({.kind = WorkKind::BindWindow,
                         .window = path_.windows[request.chunk_].get(),
                         .region = path_.region},
                        request.chunk_);
  want_flush();
}

void ServerConnection::on_own_work_done(std::uint32_t index) {
  if (binding_) {
    bind_more();
  } else {
    advance(path_.chunks->request(index));
  }
}

Status ServerConnection::parse(ServerRequest& request) {
  const std::span<const std::byte> chunk = path_.chunks->chunk(request.chunk_);
  const std::uint32_t at = request.message_offset_;
  const auto head = load<WriteMessage>(chunk, at);
  const std::uint16_t user_length = head.user_length;
  if (user_length > at || user_length > kMaxUserMessage) {
    return fail(EPROTO, fmt::format("a user message of {} bytes at {}", user_length, at));
  }
  const std::uint32_t data_length = at - user_length;
  if (data_length > path_.parameters.max_io_size) {
    return fail(EPROTO, fmt::format("{} bytes of data; at most {} fit", data_length,
                                    path_.parameters.max_io_size));
  }
  request.data_ = path_.chunks->chunk(request.chunk_).first(data_length);
  request.user_length_ = user_length;
  std::ranges::copy(chunk.subspan(data_length, user_length), request.user_message_.begin());
  request.need_invalidate_ = false;
  request.answer_length_ = 0;
  switch (const std::uint16_t type = head.type; type) {
    case wire_type(MessageType::Write):
      request.direction_ = Direction::Write;
      return {};
    case wire_type(MessageType::Read):
      request.direction_ = Direction::Read;
      return parse_read(request, chunk.subspan(at));
    default:
      return fail(EPROTO, fmt::format("a message of type {} in a chunk", type));
  }
}

Status ServerConnection::parse_read(ServerRequest& request, std::span<const std::byte> message) {
  if (message.size() < sizeof(ReadMessage)) return fail(EPROTO, "a read message past the chunk");
  const auto read = load<ReadMessage>(message);
  const std::uint16_t count = read.descriptors;
  if (count == 0) return {};
  if (count != 1 || message.size() < sizeof(ReadMessage) + sizeof(Descriptor)) {
    return fail(EPROTO, fmt::format("a read with {} descriptors", count));
  }
  const auto answer = load<Descriptor>(message, sizeof(ReadMessage));
  if (answer.length == 0 || answer.length > request.data_.size()) {
    return fail(EPROTO, fmt::format("a read of {} bytes that awaits {}", request.data_.size(),
                                    answer.length + 0));
  }
  request.answer_ = {answer.address, answer.key};
  request.answer_length_ = answer.length;
  request.need_invalidate_ = (read.flags & kNeedInvalidate) != 0;
  return {};
}

void ServerConnection::respond(ServerRequest& request, int error) {
  request.error_ = error > Outcome::kMaxError ? EIO : error;
  stages_[request.chunk_] = Stage::Answer;
  advance(request);
}

void ServerConnection::post_answer(ServerRequest& request) {
  if (!stalled_.empty() || !chain().has_room(kWorkPerRequest)) {
    held_[request.chunk_] = true;
    stalled_.push_back(request.chunk_);
    return;
  }
  const bool data = request.error_ == 0 && request.answer_length_ > 0;
  const bool invalidate = request.need_invalidate_;
  const auto type = invalidate ? ImmediateType::ResponseInvalidated : ImmediateType::Response;
  const Immediate immediate(
      type, Outcome{request.chunk_, static_cast<std::uint32_t>(request.error_)}.pack());
  const LocalMemory answer{request.data_.data(), request.answer_length_, path_.region->local_key()};
  // The client may use the chunk again as soon as it has the answer.
  const bool alone = data && !invalidate && !path_.parameters.new_key;
  if (alone) {
    chain().add({.kind = WorkKind::WriteImmediate,
                 .source = answer,
                 .remote = request.answer_,
                 .immediate = immediate.value()});
  } else if (data) {
    chain().add({.kind = WorkKind::Write, .source = answer, .remote = request.answer_});
  }
  if (invalidate) {
    chain().add({.kind = WorkKind::SendInvalidate, .remote = {0, request.answer_.key}});
  }
  if (path_.parameters.new_key) {
    post_new_key(request, immediate);
    return;
  }
  if (!alone) chain().add({.kind = WorkKind::WriteImmediate, .immediate = immediate.value()});
  want_flush();
  release(request);
}

void ServerConnection::post_new_key(const ServerRequest& request, Immediate immediate) {
  const std::uint32_t chunk = request.chunk_;
  const std::span<std::byte> message =
      path_.key_messages.bytes().subspan(chunk * sizeof(KeyResponse), sizeof(KeyResponse));
  auto* const response = new (message.data()) KeyResponse;
  response->chunk = static_cast<std::uint16_t>(chunk);
  transport::WorkRequest bind = bind_work(chunk);
  bind.key_to = &response->key;
  chain().add(bind);
  chain().add({.kind = WorkKind::SendImmediate,
               .source = {message.data(), sizeof(KeyResponse), path_.key_region->local_key()},
               .immediate = immediate.value()});
  // The chunk stays ours until the bind is posted: nobody else may touch the window. Its client may
  // have the answer, and use the chunk again on another connection, before flush() is through with
  // all it posts; that request is none too many, but waits.
  path_.ours[chunk].store(false, std::memory_order_relaxed);
  held_[chunk] = true;
  answered_.push_back(chunk);
  want_flush();
}

transport::WorkRequest ServerConnection::bind_work(std::uint32_t chunk) const {
  const std::span<std::byte> memory = path_.chunks->chunk(chunk);
  return {.kind = WorkKind::BindWindow,
          .source = {memory.data(), static_cast<std::uint32_t>(memory.size()), 0},
          .window = path_.windows[chunk].get(),
          .region = path_.region};
}

void ServerConnection::flush() {
  Connection::flush();
  if (failed()) return;
  for (const std::uint32_t chunk : answered_) {
    held_[chunk] = false;
    release(path_.chunks->request(chunk));
  }
  answered_.clear();
}

void ServerConnection::bind_all(Executor::Task done) {
  on_bound_ = std::move(done);
  binding_ = true;
  bind_more();
}

void ServerConnection::bind_more() {
  // One signalled bind in each batch, the last, brings us back.
  const std::uint32_t depth = path_.parameters.queue_depth;
  if (to_bind_ == depth) {
    binding_ = false;
    if (on_bound_) std::exchange(on_bound_, nullptr)();
    return;
  }
  while (to_bind_ < depth && chain().has_room(2)) {
    const std::uint32_t chunk = to_bind_++;
    const bool last = to_bind_ == depth || !chain().has_room(3);
    if (last) {
      chain().add_signalled(bind_work(chunk), chunk);
      break;
    }
    chain().add(bind_work(chunk));
  }
  want_flush();
}

void ServerConnection::on_room() {
  if (stalled_.empty()) return;
  resuming_.swap(stalled_);
  std::size_t next = 0;
  while (next < resuming_.size() && chain().has_room(kWorkPerRequest)) {
    advance(path_.chunks->request(resuming_[next++]));
  }
  stalled_.insert(stalled_.end(), resuming_.begin() + static_cast<std::ptrdiff_t>(next),
                  resuming_.end());
  resuming_.clear();
}

void ServerConnection::on_stopped() {
  // What waits for room, for a revoked key or for its answer to be posted is not coming back by
  // itself any more.
  for (std::uint32_t chunk = 0; chunk < held_.size(); ++chunk) {
    if (held_[chunk]) advance(path_.chunks->request(chunk));
    if (waiting_[chunk] == kNotWaiting || !path_.chunks->stop_waiting(chunk, *this)) continue;
    waiting_[chunk] = kNotWaiting;
    count_in_flight(-1);
  }
}

void ServerConnection::release(ServerRequest& request) {
  const std::uint32_t chunk = request.chunk_;
  path_.ours[chunk].store(false, std::memory_order_relaxed);
  ServerConnection* const next = ChunkTable::release(request);
  if (next != nullptr) next->hand_over(chunk);
  count_in_flight(-1);
  check_idle();
}

}  // namespace rnbd::rtrs
