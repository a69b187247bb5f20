// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/server_session.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/limits.h"
#include "common/log.h"

namespace rnbd::rtrs {

Result<std::unique_ptr<ServerSession>> ServerSession::create(ControlContext& control,
                                                             std::vector<WorkerContext*> workers,
                                                             ServerSessionSettings settings,
                                                             MemoryBlock memory,
                                                             ServerSessionEvents& events) {
  auto chunks = ChunkTable::create(settings.parameters, std::move(memory));
  if (!chunks) return fail(chunks.error());
  return std::unique_ptr<ServerSession>(new ServerSession(
      control, std::move(workers), std::move(settings), std::move(*chunks), events));
}

Status ServerSession::add(const ConnectRequest& request,
                          std::unique_ptr<transport::Endpoint>& endpoint) {
  if (ending_) return fail(ECONNRESET, "the session's last life is still ending");
  ServerPath* const known = find_path(request.path_uuid);
  if (known != nullptr && request.cid == 0 && !known->expects_service()) {
    return begin_new_life(*known, request, endpoint);
  }
  auto path = find_or_add_path(request, *endpoint);
  if (!path) return fail(path.error());
  Status added = (*path)->add(request, endpoint);
  // A path that nothing has come of must not keep the session.
  if (!added && (*path)->state() == ServerPathState::Connecting && (*path)->empty()) {
    (*path)->close("its first connection was refused");
  }
  return added;
}

ServerPath* ServerSession::find_path(const Uuid& uuid) const {
  const auto found = std::ranges::find_if(
      paths_, [&](const auto& path) { return path->uuid() == uuid && !path->over(); });
  return found == paths_.end() ? nullptr : found->get();
}

bool ServerSession::is_from_client(const transport::Endpoint& endpoint) const {
  return std::ranges::any_of(paths_, [peer = endpoint.peer_address()](const auto& path) {
    return path->peer_address() == peer;
  });
}

Status ServerSession::begin_new_life(ServerPath& path, const ConnectRequest& request,
                                     std::unique_ptr<transport::Endpoint>& endpoint) {
  // Whoever knows both names has been told them; still, nobody ends a path from elsewhere.
  if (!is_from_client(*endpoint)) {
    return fail(ECONNRESET, "the path is alive, and none of its client's asks for a new life");
  }
  const auto earlier = std::ranges::find(waiting_, request.path_uuid,
                                         [](const Waiting& one) { return one.request.path_uuid; });
  if (earlier != waiting_.end()) {
    earlier->endpoint->reject(bytes_of(make_reject(ECONNRESET)));
    waiting_.erase(earlier);
  }
  waiting_.push_back({request, std::move(endpoint)});
  path.close("its client begins a new life of it");
  return {};
}

void ServerSession::on_server_path_draining(const Uuid& uuid) {
  control_.post([this, uuid] { admit_waiting(uuid); });
}

void ServerSession::admit_waiting(const Uuid& uuid) {
  const auto found =
      std::ranges::find(waiting_, uuid, [](const Waiting& one) { return one.request.path_uuid; });
  if (found == waiting_.end()) return;
  Waiting waiting = std::move(*found);
  waiting_.erase(found);
  const Status admitted = add(waiting.request, waiting.endpoint);
  if (admitted) return;
  log::debug("session {}: {} was waited for: {}", name_, waiting.endpoint->peer_address(),
             describe(admitted.error()));
  waiting.endpoint->reject(bytes_of(make_reject(admitted.error().code)));
}

void ServerSession::refuse_waiting(const Error& why) {
  for (Waiting& one : std::exchange(waiting_, {})) {
    one.endpoint->reject(bytes_of(make_reject(why.code)));
  }
}

Result<ServerPath*> ServerSession::find_or_add_path(const ConnectRequest& request,
                                                    const transport::Endpoint& endpoint) {
  if (ServerPath* const known = find_path(request.path_uuid)) return known;
  for (const auto& path : paths_) {
    if (path->over()) continue;
    if (path->peer_address() == endpoint.peer_address() &&
        path->local_address() == endpoint.local_address()) {
      return fail(EEXIST, fmt::format("another path goes from {} to {}", endpoint.peer_address(),
                                      endpoint.local_address()));
    }
  }
  // Its client believes in a session that lives on another path. If none does, this would be
  // another life of the session, and the client must know that, or it would use in it what it has
  // opened in the last one.
  const bool lives = std::ranges::any_of(
      paths_, [](const auto& path) { return path->state() == ServerPathState::Connected; });
  if (!lives && (request.flags & kFirstConnection) == 0) {
    return fail(ENXIO, "a further path of a session that has none");
  }
  if (paths_.size() >= limits::kMaxServerPaths) {
    return fail(ECONNRESET, fmt::format("{} paths are enough", limits::kMaxServerPaths));
  }
  if (Status free = events_.on_path_asked(endpoint.peer_address(), request.connections); !free) {
    return fail(free.error());
  }
  paths_.push_back(
      std::make_unique<ServerPath>(control_, workers_,
                                   ServerPathSettings{.uuid = request.path_uuid,
                                                      .connections = request.connections,
                                                      .parameters = settings_.parameters,
                                                      .first_worker = settings_.first_worker,
                                                      .heartbeat = settings_.heartbeat,
                                                      .generation = &generation_},
                                   *chunks_, *this));
  return paths_.back().get();
}

Result<RequestHandler*> ServerSession::on_path_named(const std::string& name) {
  if (handler_ != nullptr) {
    if (name == name_) return handler_;
    return fail(EINVAL, fmt::format("the session is called {}, not {}", name_, name));
  }
  name_ = name;
  auto handler = events_.on_session_named(*this);
  if (!handler) {
    name_.clear();
    return handler;
  }
  handler_ = *handler;
  return handler_;
}

void ServerSession::raise_generation() {
  generation_.fetch_add(1, std::memory_order_relaxed);
  for (const auto& path : paths_) path->tell_generation();
}

void ServerSession::close(const std::string& why) {
  refuse_waiting({ECONNREFUSED, why});
  for (const auto& path : paths_) path->close(why);
}

void ServerSession::on_server_path_closed(ServerPath& path) {
  // Not from inside the path's own call.
  control_.post([this, closed = &path] {
    std::erase_if(paths_, [&](const auto& one) { return one.get() == closed; });
    if (paths_.empty()) end();
  });
}

void ServerSession::end() {
  RNBD_ASSERT(chunks_->busy() == 0);
  ending_ = true;
  refuse_waiting({ECONNRESET, "the session ends"});
  if (handler_ == nullptr) {
    events_.on_session_ended(*this);
    return;
  }
  events_.on_session_closed(*this, [this] { events_.on_session_ended(*this); });
}

}  // namespace rnbd::rtrs
