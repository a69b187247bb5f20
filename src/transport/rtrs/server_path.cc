// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/server_path.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/limits.h"
#include "common/log.h"

namespace rnbd::rtrs {
namespace {

constexpr std::array kServerMoves = {
    std::pair{ServerPathState::Connecting, ServerPathState::Binding},
    std::pair{ServerPathState::Binding, ServerPathState::Connected},
    std::pair{ServerPathState::Connecting, ServerPathState::Closing},
    std::pair{ServerPathState::Binding, ServerPathState::Closing},
    std::pair{ServerPathState::Connected, ServerPathState::Closing},
    std::pair{ServerPathState::Closing, ServerPathState::Draining},
    std::pair{ServerPathState::Draining, ServerPathState::Closed},
};

std::size_t info_bytes(const ServerParameters& parameters) {
  const std::size_t descriptors = parameters.new_key ? parameters.queue_depth : 1;
  return std::max(sizeof(InfoRequest), sizeof(InfoResponse) + descriptors * sizeof(Descriptor));
}

}  // namespace

ServerPath::Member::Member(ServerPath& owner, std::uint16_t cid, std::size_t worker_index)
    : path(owner),
      data(cid, worker_index, *owner.workers_[worker_index], owner.control_, owner, owner.view_) {}

ServerPath::ServerPath(ControlContext& control, std::vector<WorkerContext*> workers,
                       ServerPathSettings settings, ChunkTable& chunks, ServerPathEvents& events)
    : control_(control),
      workers_(std::move(workers)),
      settings_(settings),
      events_(events),
      members_(settings_.connections) {
  view_.parameters = settings_.parameters;
  view_.chunks = &chunks;
  view_.generation = settings_.generation;
  view_.ours = std::vector<std::atomic<bool>>(settings_.parameters.queue_depth);
  half_open_ = control_.call_after(limits::kHalfOpenTimeout, [this] {
    close(fmt::format("it did not become whole in {} s", limits::kHalfOpenTimeout.count()));
  });
}

ServerPath::~ServerPath() { RNBD_ASSERT(holding_ == 0 && busy_ == 0); }

void ServerPath::move_to(ServerPathState next) {
  RNBD_ASSERT(std::ranges::any_of(
      kServerMoves, [&](const auto& move) { return move == std::pair{state_, next}; }));
  const bool was_connected = std::exchange(state_, next) == ServerPathState::Connected;
  if (was_connected || next == ServerPathState::Connected) events_.on_server_path_changed(*this);
}

std::size_t ServerPath::worker_index(std::uint16_t cid) const {
  const std::size_t lane = cid == 0 ? 0 : cid - 1U;
  return (settings_.first_worker + lane) % workers_.size();
}

bool ServerPath::empty() const {
  return std::ranges::all_of(members_, [](const auto& member) { return member == nullptr; });
}

std::uint32_t ServerPath::in_flight() const {
  std::uint32_t sum = 0;
  for (const auto& member : members_) sum += member == nullptr ? 0 : member->data.in_flight();
  return sum;
}

Status ServerPath::add(const ConnectRequest& request,
                       std::unique_ptr<transport::Endpoint>& endpoint) {
  if (Status admitted = admit(request, *endpoint); !admitted) return admitted;
  if (device_ == nullptr) {
    if (Status usable = use_device(*endpoint); !usable) return usable;
  }
  auto member = std::make_unique<Member>(*this, request.cid, worker_index(request.cid));
  member->data.own(std::move(endpoint));
  Status accepted = prepare(*member);
  if (accepted) {
    member->data.endpoint().set_events(*member);
    accepted = member->data.endpoint().accept(bytes_of(make_accept(settings_.parameters)));
  }
  if (!accepted) {
    endpoint = member->data.give_back();
    return accepted;
  }
  member->data.attach();
  members_[request.cid] = std::move(member);
  return {};
}

Status ServerPath::admit(const ConnectRequest& request, transport::Endpoint& endpoint) const {
  const std::uint16_t cid = request.cid;
  if (state_ != ServerPathState::Connecting) {
    return fail(ECONNRESET, "the path is not connecting; its last life may still be ending");
  }
  if (request.connections != settings_.connections) {
    return fail(ECONNRESET, fmt::format("{} connections now, {} before", request.connections + 0,
                                        settings_.connections));
  }
  if (members_[cid] != nullptr) {
    return fail(ECONNRESET, fmt::format("connection {} is there already", cid));
  }
  if (device_ != nullptr && device_ != &endpoint.device()) {
    return fail(ECONNRESET, "all connections of a path have to use one adapter");
  }
  return {};
}

Status ServerPath::use_device(transport::Endpoint& endpoint) {
  transport::Device& device = endpoint.device();
  const bool windows = settings_.parameters.new_key;
  auto region =
      device.register_region(view_.chunks->memory(), windows ? transport::RegionUse::WindowTarget
                                                             : transport::RegionUse::RemoteWrite);
  if (!region) return fail(region.error());
  region_ = std::move(*region);
  view_.region = region_.get();
  if (windows) {
    if (Status made = make_windows(device); !made) return made;
  }
  device_ = &device;
  device_name_ = device.capabilities().device;
  local_address_ = endpoint.local_address();
  peer_address_ = endpoint.peer_address();
  return {};
}

Status ServerPath::make_windows(transport::Device& device) {
  const std::uint32_t depth = settings_.parameters.queue_depth;
  for (std::uint32_t i = 0; i < depth; ++i) {
    auto window = device.make_window();
    if (!window) return fail(window.error());
    view_.windows.push_back(std::move(*window));
  }
  auto memory = MemoryBlock::map(depth * sizeof(KeyResponse));
  if (!memory) return fail(memory.error());
  view_.key_messages = std::move(*memory);
  auto region = device.register_region(view_.key_messages.bytes(), transport::RegionUse::Local);
  if (!region) return fail(region.error());
  view_.key_region = std::move(*region);
  return {};
}

Status ServerPath::prepare(Member& member) {
  const std::uint32_t depth = settings_.parameters.queue_depth;
  const transport::Capabilities& device = device_->capabilities();
  const std::uint32_t service = std::max(depth, limits::kServiceQueueDepth);
  const std::uint32_t receives =
      (member.data.cid() == 0 ? service : depth) + limits::kReceiveHeadroom;
  if (receives > device.max_receive_work) {
    return fail(ENOSPC,
                fmt::format("{} holds {} receives a connection; a queue depth of {} needs {}",
                            device.device, device.max_receive_work, depth, receives));
  }
  const std::uint32_t wanted =
      depth * ServerConnection::kWorkPerRequest + 2 * limits::kSignalInterval;
  const std::uint32_t sends = std::min({wanted, device.max_send_work, limits::kMaxSendQueue});
  if (Status opened = member.data.open(
          {.send_work = sends, .receive_work = receives, .binds = settings_.parameters.new_key});
      !opened) {
    return opened;
  }
  const std::size_t info = member.data.cid() == 0 ? info_bytes(settings_.parameters) : 0;
  return member.data.post_receives(receives - 1, info);
}

void ServerPath::on_info(std::vector<std::byte> message) {
  if (state_ != ServerPathState::Connecting) return;
  const auto name = parse_info_request(message);
  if (!name) {
    close(describe(name.error()));
    return;
  }
  if (std::ranges::any_of(members_, [](const auto& member) { return member == nullptr; })) {
    close("INFO_REQ came before all connections were there");
    return;
  }
  auto handler = events_.on_path_named(*name);
  if (!handler) {
    close(describe(handler.error()));
    return;
  }
  view_.handler = *handler;
  half_open_.reset();
  move_to(ServerPathState::Binding);
  if (!settings_.parameters.new_key) {
    connected();
    return;
  }
  service_worker().post(
      [this] { members_[0]->data.bind_all([this] { control_.post([this] { connected(); }); }); });
}

void ServerPath::connected() {
  if (state_ != ServerPathState::Binding) return;
  move_to(ServerPathState::Connected);
  view_.connected.store(true, std::memory_order_release);
  service_worker().post([this, response = info_response()] {
    members_[0]->data.send_info(response);
    view_.heartbeat = std::make_unique<Heartbeat>(*this, settings_.heartbeat, Asks::InDoubt,
                                                  service_worker().now());
    service_worker().add(*view_.heartbeat);
  });
}

std::vector<std::byte> ServerPath::info_response() const {
  const std::uint32_t depth = settings_.parameters.queue_depth;
  const bool by_chunk = settings_.parameters.new_key;
  const std::uint32_t count = by_chunk ? depth : 1;
  std::vector<std::byte> message(sizeof(InfoResponse) + count * sizeof(Descriptor));
  InfoResponse head;
  head.descriptors = static_cast<std::uint16_t>(count);
  store(std::span(message), head);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto memory = by_chunk ? view_.chunks->chunk(i) : view_.chunks->memory();
    Descriptor descriptor;
    descriptor.address = reinterpret_cast<std::uintptr_t>(memory.data());
    descriptor.key = by_chunk ? view_.windows[i]->key() : region_->remote_key();
    descriptor.length = static_cast<std::uint32_t>(memory.size());
    store(std::span(message), descriptor, sizeof(InfoResponse) + i * sizeof(Descriptor));
  }
  return message;
}

void ServerPath::on_connection_failed(std::uint16_t cid, const Error& error) {
  close(fmt::format("connection {}: {}", cid, error.message));
}

void ServerPath::close(const std::string& why) {
  if (state_ >= ServerPathState::Closing) return;
  if (!empty()) log::info("path {} -> {} closes: {}", peer_address_, local_address_, why);
  end_reason_ = why;
  move_to(ServerPathState::Closing);
  half_open_.reset();
  holding_ = 1;  // the heartbeat's worker, below
  busy_ = 1;     // the last step of on_let_go()
  service_worker().post([this] {
    if (view_.heartbeat) service_worker().remove(*view_.heartbeat);
    view_.heartbeat.reset();
  });
  for (const auto& member : members_) {
    if (member == nullptr) continue;
    member->data.endpoint().disconnect();
    ++holding_;
    ++busy_;
    member->data.detach([this] { on_let_go(); }, [this] { on_idle(); });
  }
  service_worker().post([this] { control_.post([this] { on_let_go(); }); });
}

void ServerPath::on_let_go() {
  if (--holding_ > 0) return;
  for (const auto& member : members_) {
    if (member != nullptr) member->data.close();
  }
  view_.windows.clear();
  view_.key_region.reset();
  region_.reset();
  move_to(ServerPathState::Draining);
  events_.on_server_path_draining(settings_.uuid);
  on_idle();
}

void ServerPath::on_idle() {
  if (--busy_ > 0) return;
  move_to(ServerPathState::Closed);
  events_.on_server_path_closed(*this);
}

std::uint64_t ServerPath::arrivals() const {
  std::uint64_t sum = 0;
  for (const auto& member : members_) sum += member->data.arrivals();
  return sum;
}

void ServerPath::send_heartbeat() { members_[0]->data.send_heartbeat(ImmediateType::Heartbeat); }

void ServerPath::tell_generation() {
  if (state_ != ServerPathState::Connected) return;
  service_worker().post([this] {
    if (view_.heartbeat) send_heartbeat();
  });
}

void ServerPath::on_heartbeat_lost() {
  members_[0]->data.fail_connection({ETIMEDOUT, "heartbeats went unanswered"});
}

}  // namespace rnbd::rtrs
