// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/client_connection.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"

namespace rnbd::rtrs {
namespace {

/// Writes the messages behind the data, as they lie in the server's chunk; returns their length.
std::uint32_t write_messages(const ClientRequest& request, std::span<std::byte> behind_data,
                             const Descriptor& answer) {
  std::memcpy(behind_data.data(), request.user_message.data(), request.user_length);
  std::uint32_t at = request.user_length;
  if (request.direction == Direction::Write) {
    WriteMessage message;
    message.user_length = request.user_length;
    store(behind_data, message, at);
    return at + static_cast<std::uint32_t>(sizeof message);
  }
  ReadMessage message;
  message.user_length = request.user_length;
  message.descriptors = request.data_length > 0 ? 1 : 0;
  store(behind_data, message, at);
  at += static_cast<std::uint32_t>(sizeof message);
  if (request.data_length == 0) return at;
  store(behind_data, answer, at);
  return at + static_cast<std::uint32_t>(sizeof answer);
}

}  // namespace

bool ClientConnection::ready() {
  if (failed()) return false;
  if (chain().has_room(1)) return true;
  starved_ = true;
  return false;
}

void ClientConnection::send(SessionCore& core, PermitId permit) {
  const ClientRequest& request = core.request(permit);
  const std::span<std::byte> buffer = core.buffer(permit);
  Descriptor answer;
  answer.address = reinterpret_cast<std::uintptr_t>(buffer.data());
  answer.key = path_.buffers->remote_key();
  answer.length = request.data_length;
  const std::uint32_t messages =
      write_messages(request, buffer.subspan(request.data_length), answer);

  // A write carries its data in front of the messages; a read leaves that part of the chunk alone.
  const bool write = request.direction == Direction::Write;
  const std::uint32_t skipped = write ? 0 : request.data_length;
  const std::uint32_t length = write ? request.data_length + messages : messages;
  const ChunkOffset target{permit, request.data_length + request.user_length};
  transport::RemoteMemory chunk = path_.chunks[permit];
  chunk.address += skipped;
  chain().add(
      {.kind = transport::WorkKind::WriteImmediate,
       .source = {buffer.data() + skipped, length, path_.buffers->local_key()},
       .remote = chunk,
       .immediate =
           Immediate(ImmediateType::Request, target.pack(path_.parameters.queue_depth)).value()});
  want_flush();
}

void ClientConnection::on_immediate(Immediate immediate, bool by_send,
                                    std::span<const std::byte> body) {
  switch (immediate.type()) {
    case ImmediateType::Response:
    case ImmediateType::ResponseInvalidated:
      on_response(Outcome::unpack(immediate.payload()), by_send, body);
      break;
    case ImmediateType::Heartbeat:
      send_immediate(Immediate(ImmediateType::HeartbeatAck, 0));
      on_generation(immediate.payload());
      break;
    case ImmediateType::HeartbeatAck:
      on_heartbeat_ack();
      if (immediate.payload() != 0) on_generation(immediate.payload());  // 0: it does not say
      break;
    case ImmediateType::Request:
    default:
      fail_connection({EPROTO, fmt::format("immediate {:#010x} from a server", immediate.value())});
      break;
  }
}

/// Kernel servers say 0 always.
void ClientConnection::on_generation(std::uint32_t generation) {
  if (path_.generation.exchange(generation) == generation) return;
  // However many come, one is under way to the control thread.
  if (!path_.generation_told.exchange(true)) tell(&ConnectionEvents::on_server_generation);
}

void ClientConnection::on_heartbeat_ack() {
  if (cid() != 0 || path_.heartbeat_sent == kNever) return;
  const Duration taken = worker().now() - std::exchange(path_.heartbeat_sent, kNever);
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count();
  // Never 0, which would say that nothing was measured.
  path_.stats->latency_ns.store(static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 1)),
                                std::memory_order_relaxed);
}

void ClientConnection::on_response(Outcome outcome, bool by_send, std::span<const std::byte> body) {
  if (outcome.chunk >= path_.parameters.queue_depth || sink_ == nullptr) {
    fail_connection({EPROTO, fmt::format("an answer for chunk {}", outcome.chunk)});
    return;
  }
  if (by_send) {
    // Before the request is done: its permit may be used again at once.
    if (Status key = take_key(outcome, body); !key) {
      fail_connection(key.error());
      return;
    }
  }
  if (!sink_->on_response(static_cast<PermitId>(outcome.chunk), static_cast<int>(outcome.error))) {
    fail_connection(
        {EPROTO, fmt::format("an answer for chunk {}, which nobody awaits here", outcome.chunk)});
  }
}

Status ClientConnection::take_key(Outcome outcome, std::span<const std::byte> body) {
  if (!path_.parameters.new_key) return fail(EPROTO, "a new key, though none were announced");
  if (body.size() < sizeof(KeyResponse)) return fail(EPROTO, "a key response that is too short");
  const auto response = load<KeyResponse>(body);
  if (response.type != wire_type(MessageType::KeyResponse) || response.chunk != outcome.chunk) {
    return fail(EPROTO, "a key response for another chunk than the answer's");
  }
  if (!sink_->awaits(static_cast<PermitId>(outcome.chunk))) {
    return fail(EPROTO, fmt::format("a key for chunk {}, which is not in use here", outcome.chunk));
  }
  path_.chunks[outcome.chunk].key = response.key;
  return {};
}

void ClientConnection::on_room() {
  if (sink_ != nullptr && std::exchange(starved_, false)) sink_->on_connection_room();
}

}  // namespace rnbd::rtrs
