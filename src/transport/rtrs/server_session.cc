// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/server_session.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::rtrs {

Result<std::unique_ptr<ServerSession>> ServerSession::create(ControlContext& control,
                                                             std::vector<WorkerContext*> workers,
                                                             ServerSessionSettings settings,
                                                             ServerSessionEvents& events) {
  auto chunks = ChunkTable::create(settings.parameters);
  if (!chunks) return fail(chunks.error());
  return std::unique_ptr<ServerSession>(
      new ServerSession(control, std::move(workers), settings, std::move(*chunks), events));
}

Status ServerSession::add(const ConnectRequest& request,
                          std::unique_ptr<transport::Endpoint>& endpoint) {
  if (ending_) return fail(ECONNRESET, "the session's last life is still ending");
  auto path = find_or_add_path(request, *endpoint);
  if (!path) return fail(path.error());
  Status added = (*path)->add(request, endpoint);
  // A path that nothing has come of must not keep the session.
  if (!added && (*path)->state() == ServerPathState::Connecting && (*path)->empty()) {
    (*path)->close("its first connection was refused");
  }
  return added;
}

Result<ServerPath*> ServerSession::find_or_add_path(const ConnectRequest& request,
                                                    const transport::Endpoint& endpoint) {
  for (const auto& path : paths_) {
    if (path->uuid() == request.path_uuid) return path.get();
    if (path->peer_address() == endpoint.peer_address() &&
        path->local_address() == endpoint.local_address()) {
      return fail(EEXIST, fmt::format("another path goes from {} to {}", endpoint.peer_address(),
                                      endpoint.local_address()));
    }
  }
  // A request that a client sends again on another path must not run beside its first copy, and
  // this server does not hold it back yet.
  if (!paths_.empty()) return fail(EOPNOTSUPP, "one path a session is what this version can do");
  paths_.push_back(
      std::make_unique<ServerPath>(control_, workers_,
                                   ServerPathSettings{.uuid = request.path_uuid,
                                                      .connections = request.connections,
                                                      .parameters = settings_.parameters,
                                                      .first_worker = settings_.first_worker,
                                                      .heartbeat = settings_.heartbeat},
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

void ServerSession::close(const std::string& why) {
  for (const auto& path : paths_) path->close(why);
}

void ServerSession::on_server_path_closed(const Uuid& uuid) {
  // Not from inside the path's own call.
  control_.post([this, uuid] {
    std::erase_if(paths_, [&](const auto& path) { return path->uuid() == uuid; });
    if (paths_.empty()) end();
  });
}

void ServerSession::end() {
  RNBD_ASSERT(chunks_->busy() == 0);
  ending_ = true;
  if (handler_ == nullptr) {
    events_.on_session_ended(*this);
    return;
  }
  events_.on_session_closed(*this, [this] { events_.on_session_ended(*this); });
}

}  // namespace rnbd::rtrs
