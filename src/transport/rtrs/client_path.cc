// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/client_path.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::rtrs {
namespace {

constexpr std::array kClientMoves = {
    std::pair{PathState::Connecting, PathState::Info},
    std::pair{PathState::Info, PathState::Connected},
    std::pair{PathState::Connecting, PathState::Closing},
    std::pair{PathState::Info, PathState::Closing},
    std::pair{PathState::Connected, PathState::Closing},
    std::pair{PathState::Closing, PathState::Closed},
};

constexpr std::size_t info_response_size(std::uint32_t queue_depth) {
  return sizeof(InfoResponse) + queue_depth * sizeof(Descriptor);
}

}  // namespace

ClientPath::Member::Member(ClientPath& owner, std::uint16_t cid, WorkerContext& worker)
    : path(owner), data(cid, worker, owner.control_, owner, owner.view_) {}

void ClientPath::Member::on_disconnected(const std::string& reason) {
  path.close({ECONNRESET, reason});
}

ClientPath::ClientPath(transport::Fabric& fabric, ControlContext& control,
                       std::vector<WorkerContext*> workers, PathSettings settings, PathStats& stats,
                       PathEvents& events)
    : fabric_(fabric),
      control_(control),
      workers_(std::move(workers)),
      settings_(std::move(settings)),
      events_(events) {
  view_.stats = &stats;
}

ClientPath::~ClientPath() { RNBD_ASSERT(connections_.empty() || state_ == PathState::Closed); }

void ClientPath::move_to(PathState next) {
  RNBD_ASSERT(std::ranges::any_of(
      kClientMoves, [&](const auto& move) { return move == std::pair{state_, next}; }));
  state_ = next;
}

void ClientPath::start() { connect_next(); }

void ClientPath::connect_next() {
  const auto cid = static_cast<std::uint16_t>(connections_.size());
  connections_.push_back(std::make_unique<Member>(*this, cid, *workers_[cid]));
  Member& member = *connections_.back();
  auto endpoint = fabric_.dial(settings_.source, settings_.destination, member);
  if (!endpoint) {
    close(endpoint.error());
    return;
  }
  // From here on: the first one of a process has loaded the adapters' drivers.
  deadline_ = control_.call_after(settings_.connect_timeout, [this, cid] {
    const auto limit =
        std::chrono::duration_cast<std::chrono::milliseconds>(settings_.connect_timeout);
    close({ETIMEDOUT, fmt::format("connection {} did not come up in {} ms", cid, limit.count())});
  });
  member.data.own(std::move(*endpoint));
}

void ClientPath::on_resolved(Member& member) {
  if (state_ != PathState::Connecting) return;
  if (Status prepared = prepare(member); !prepared) {
    close(prepared.error());
    return;
  }
  ConnectRequest request;
  request.cid = member.data.cid();
  request.connections = static_cast<std::uint16_t>(workers_.size());
  request.reconnect_count = settings_.attempt;
  request.path_uuid = settings_.path_uuid;
  request.session_uuid = settings_.session_uuid;
  request.flags = settings_.may_create_session ? kFirstConnection : 0;
  if (Status status = member.data.endpoint().connect(bytes_of(request)); !status) {
    close(status.error());
  }
}

Status ClientPath::prepare(Member& member) {
  // Connection 0 does not know the queue depth yet; its receives follow with the parameters.
  if (member.data.cid() == 0) {
    return member.data.open(
        {.send_work = limits::kServiceQueueDepth + limits::kReceiveHeadroom,
         .receive_work = limits::kServiceQueueDepth + limits::kReceiveHeadroom});
  }
  const std::uint32_t depth = view_.parameters.queue_depth;
  const transport::Capabilities& device = member.data.endpoint().device().capabilities();
  const std::uint32_t receives = depth + limits::kReceiveHeadroom;
  if (receives > device.max_receive_work) {
    return fail(ENOSPC,
                fmt::format("{} holds {} receives a connection; a queue depth of {} needs {}",
                            device.device, device.max_receive_work, depth, receives));
  }
  const std::uint32_t sends =
      std::min({depth + 2 * limits::kSignalInterval, device.max_send_work, limits::kMaxSendQueue});
  if (Status opened = member.data.open({.send_work = sends, .receive_work = receives}); !opened) {
    return opened;
  }
  return member.data.post_receives(receives, 0);
}

void ClientPath::on_established(Member& member, std::span<const std::byte> private_data) {
  if (state_ != PathState::Connecting) return;
  const auto parameters = parse_connect_response(private_data);
  if (!parameters) {
    close(parameters.error());
    return;
  }
  if (member.data.cid() == 0) {
    if (Status learned = learn(*parameters); !learned) {
      close(learned.error());
      return;
    }
  }
  if (connections_.size() < workers_.size()) {
    connect_next();
  } else {
    request_info();
  }
}

Status ClientPath::learn(const ServerParameters& parameters) {
  view_.parameters = parameters;
  auto core = events_.on_path_parameters(parameters);
  if (!core) return fail(core.error());
  ClientConnection& service = connections_[0]->data;
  auto region = service.endpoint().device().register_region((*core)->memory(),
                                                            transport::RegionUse::RemoteWrite);
  if (!region) return fail(region.error());
  buffers_ = std::move(*region);
  view_.buffers = buffers_.get();
  local_address_ = service.endpoint().local_address();
  peer_address_ = service.endpoint().peer_address();
  return service.post_receives(
      limits::kServiceQueueDepth,
      std::max(info_response_size(parameters.queue_depth), sizeof(InfoRequest)));
}

void ClientPath::request_info() {
  move_to(PathState::Info);
  deadline_ = control_.call_after(
      limits::kInfoTimeout, [this] { close({ETIMEDOUT, "the server did not answer INFO_REQ"}); });
  InfoRequest request;
  std::ranges::copy(settings_.session_name, request.session_name.begin());
  connections_[0]->data.send_info(bytes_of(request));
  connections_[0]->data.attach();
}

void ClientPath::on_info(std::vector<std::byte> message) {
  if (state_ != PathState::Info) return;
  auto chunks = parse_info_response(message, view_.parameters);
  if (!chunks) {
    close(chunks.error());
    return;
  }
  view_.chunks = std::move(*chunks);
  deadline_.reset();
  for (std::size_t cid = 1; cid < connections_.size(); ++cid) connections_[cid]->data.attach();
  workers_[0]->post([this] {
    heartbeat_ =
        std::make_unique<Heartbeat>(*this, settings_.heartbeat, Asks::Always, workers_[0]->now());
    workers_[0]->add(*heartbeat_);
  });
  move_to(PathState::Connected);
  events_.on_path_connected();
}

void ClientPath::on_connection_failed(std::uint16_t cid, const Error& error) {
  close({error.code, fmt::format("connection {}: {}", cid, error.message)});
}

void ClientPath::on_server_generation() {
  view_.generation_told.store(false);
  if (state_ == PathState::Connected) events_.on_path_generation(view_.generation.load());
}

void ClientPath::close(const Error& why) {
  if (state_ == PathState::Closing || state_ == PathState::Closed) return;
  lost_in_info_ = state_ == PathState::Info && why.code == ECONNRESET;
  move_to(PathState::Closing);
  deadline_.reset();
  for (const auto& member : connections_) {
    if (member->data.has_endpoint()) member->data.endpoint().disconnect();
  }
  events_.on_path_lost(why);
  detach_all();
}

void ClientPath::detach_all() {
  detaching_ = 1;  // the last step, below
  for (const auto& member : connections_) {
    if (!member->data.attached()) continue;
    ++detaching_;
    if (member->data.cid() == 0) {
      workers_[0]->post([this] {
        if (heartbeat_) workers_[0]->remove(*heartbeat_);
        heartbeat_.reset();
      });
    }
    member->data.detach([this] { on_member_detached(); }, [] {});
  }
  control_.post([this] { on_member_detached(); });
}

void ClientPath::on_member_detached() {
  if (--detaching_ == 0) finish_closing();
}

void ClientPath::finish_closing() {
  for (const auto& member : connections_) member->data.close();
  buffers_.reset();
  move_to(PathState::Closed);
  events_.on_path_closed();
}

std::uint64_t ClientPath::arrivals() const {
  std::uint64_t sum = 0;
  for (const auto& member : connections_) sum += member->data.arrivals();
  return sum;
}

void ClientPath::send_heartbeat() {
  view_.heartbeat_sent = workers_[0]->now();
  connections_[0]->data.send_immediate(Immediate(ImmediateType::Heartbeat, 0));
}

void ClientPath::on_heartbeat_lost() {
  connections_[0]->data.fail_connection({ETIMEDOUT, "heartbeats went unanswered"});
}

}  // namespace rnbd::rtrs
