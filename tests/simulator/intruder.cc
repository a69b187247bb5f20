// SPDX-License-Identifier: Apache-2.0
#include "simulator/intruder.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/limits.h"
#include "common/rnbd_wire.h"

namespace rnbd::simulator {
namespace {

using rtrs::test::join;
using rtrs::test::RawClient;
using std::chrono::milliseconds;

constexpr std::uint32_t kReadOnly = 0;

wire::Open open_to_read(std::string_view name) {
  wire::Open message;
  message.header = wire::header(wire::MessageType::Open);
  message.access_mode = kReadOnly;
  std::ranges::copy(name, message.device_name.begin());
  return message;
}

}  // namespace

// Nothing is waited for: what it is told is seen in the next poll().
Intruder::Intruder(World& world, sim::MemoryFabric& fabric, const std::string& server)
    : world_(world),
      client_(fabric.host("intruder"), server, [](const auto& condition) { return condition(); }) {}

void Intruder::come() {
  if (std::exchange(here_, true)) return;
  world_.note("intruder: comes");
  start_anew();
}

void Intruder::go() {
  if (!std::exchange(here_, false)) return;
  world_.note("intruder: goes");
  client_.close();
}

bool Intruder::poll() {
  if (!here_) return false;
  bool busy = client_.poll();
  if (world_.now() < next_) return busy;
  next_ = world_.now() + milliseconds(1 << world_.below(8));
  world_.after(next_ - world_.now(), [] {});
  say();
  return true;
}

void Intruder::say() {
  if (dialled_ > 0 && (client_.over() || world_.one_in(50))) {
    start_anew();
  } else if (dialled_ < wanted_) {
    connect_next();
  } else if (!client_[wanted_ - 1U].established) {
    if (world_.one_in(20)) start_anew();
  } else if (!std::exchange(info_sent_, true)) {
    send_info();
  } else {
    send_request();
  }
}

void Intruder::start_anew() {
  client_.hang_up();
  dialled_ = 0;
  wanted_ = static_cast<std::uint16_t>(1 + world_.below(4));
  info_sent_ = false;
  ++attempt_;
}

void Intruder::connect_next() {
  if (dialled_ > 0 && !client_[dialled_ - 1U].established) return;
  rtrs::ConnectRequest request = RawClient::request(dialled_, wanted_);
  request.reconnect_count = attempt_;
  Bytes bytes = join(request);
  if (world_.one_in(8)) spoil(bytes);
  client_.dial(std::move(bytes));
  ++dialled_;
}

void Intruder::send_info() {
  auto parameters = rtrs::parse_connect_response(client_[0].answer);
  if (!parameters) return start_anew();
  client_.parameters = *parameters;
  Bytes message = join(RawClient::info("intruder"));
  if (world_.one_in(8)) spoil(message);
  if (world_.one_in(20)) message = noise(300);
  client_[0].send(message);
}

void Intruder::send_request() {
  if (client_.chunks.empty() && !world_.one_in(10)) return;
  const auto cid = static_cast<std::uint16_t>(world_.below(wanted_));
  switch (world_.below(8)) {
    case 0: {
      const rtrs::Immediate any =
          rtrs::Immediate::from_wire(static_cast<std::uint32_t>(world_.any_number()));
      // A request that nobody counts, whose answer would look like one too many, is not for here.
      if (any.type() != rtrs::ImmediateType::Request) client_[cid].write_immediate(any.value());
      return;
    }
    case 1:
      if (world_.one_in(10)) client_[cid].send(noise(500));
      return;
    default:
      break;
  }
  RawRequest request = world_.one_in(6) ? any_bytes() : world_.one_in(3) ? any_service() : any_io();
  request.cid = cid;
  // Chunks that are in use are named too, and such as do not exist, where an immediate can.
  const std::uint32_t depth = client_.parameters.queue_depth;
  request.chunk = world_.below(depth + (world_.one_in(30) && !std::has_single_bit(depth) ? 1 : 0));
  if (request.at + request.bytes.size() > client_.parameters.chunk_size()) return;
  client_.post(request);
}

Intruder::Bytes Intruder::noise(std::uint32_t most) {
  Bytes bytes(world_.below(most));
  for (std::byte& one : bytes) one = static_cast<std::byte>(world_.any_number());
  return bytes;
}

void Intruder::spoil(Bytes& bytes) {
  for (std::uint32_t i = world_.below(4); i > 0; --i) {
    bytes[world_.below(static_cast<std::uint32_t>(bytes.size()))] =
        static_cast<std::byte>(world_.any_number());
  }
}

Intruder::RawRequest Intruder::any_bytes() {
  RawRequest request;
  request.at = world_.below(client_.parameters.chunk_size());
  request.bytes = noise(600);
  request.offset = world_.below(client_.parameters.chunk_size() + 64);
  return request;
}

Intruder::RawRequest Intruder::any_io() {
  wire::Io message;
  message.header = wire::header(wire::MessageType::Io);
  message.device_id = world_.below(4);
  message.sector = world_.one_in(4) ? world_.any_number() : world_.below(300);
  message.rw = world_.below(8);
  const std::uint32_t size = 512 * world_.below(9);
  message.size = world_.one_in(6) ? static_cast<std::uint32_t>(world_.any_number()) : size;
  if (world_.one_in(2)) return client_.read_request(join(message), size);
  return RawClient::write_request(join(message), Bytes(size, std::byte{0xee}));
}

Intruder::RawRequest Intruder::any_service() {
  Bytes message;
  switch (world_.below(4)) {
    case 0: {
      wire::Close close;
      close.header = wire::header(wire::MessageType::Close);
      close.device_id = world_.below(4);
      message = join(close);
      break;
    }
    case 1:
      message = join(open_to_read(std::string(world_.below(255), 'x')));
      break;
    default:
      message = join(open_to_read(world_.one_in(2) ? "disk0" : "disk1"));
      break;
  }
  return client_.read_request(message, world_.below(300));
}

}  // namespace rnbd::simulator
