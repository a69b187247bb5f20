// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/server_acceptor.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/limits.h"
#include "common/log.h"

namespace rnbd::rtrs {

ServerAcceptor::~ServerAcceptor() { RNBD_ASSERT(sessions_.empty()); }

void ServerAcceptor::on_connect_request(std::unique_ptr<transport::Endpoint> endpoint,
                                        std::span<const std::byte> private_data) {
  const std::string peer = endpoint->peer_address();
  const auto request = parse_connect_request(private_data);
  const Status admitted = request ? admit(*request, endpoint) : fail(request.error());
  if (admitted) return;
  if (admitted.error().code == EEXIST) {
    log::debug("{} asked for the end of a path that is over: {}", peer, describe(admitted.error()));
  } else {
    refusals_.tell(peer, admitted.error());
  }
  // Without an errno a kernel client would not notice the reject.
  endpoint->reject(bytes_of(make_reject(admitted.error().code)));
}

Status ServerAcceptor::admit(const ConnectRequest& request,
                             std::unique_ptr<transport::Endpoint>& endpoint) {
  if (on_closed_) return fail(ECONNREFUSED, "the server is stopping");
  auto session = find_or_make(request, endpoint->peer_address());
  if (!session) return fail(session.error());
  return (*session)->add(request, endpoint);
}

Result<ServerSession*> ServerAcceptor::find_or_make(const ConnectRequest& request,
                                                    const std::string& peer) {
  for (const auto& session : sessions_) {
    if (session->uuid() == request.session_uuid) return session.get();
  }
  if ((request.flags & kFirstConnection) == 0) {
    return fail(ENXIO, "a further path of a session that is not known here");
  }
  if (refuses_new_ && find_awaited(request.session_uuid) == nullptr) {
    return fail(ESHUTDOWN, "a new session, and the server is being drained");
  }
  return make(request, peer);
}

Result<ServerSession*> ServerAcceptor::make(const ConnectRequest& request,
                                            const std::string& peer) {
  const Share asked{
      .sessions = 1, .paths = 1, .connections = request.connections, .memory = session_bytes()};
  if (Status free = check(asked, peer); !free) return fail(free.error());
  Awaited* const awaited = find_awaited(request.session_uuid);
  MemoryBlock memory = awaited == nullptr ? MemoryBlock() : std::move(awaited->memory);
  if ((sessions_.size() + sessions_kept() + 1) * session_bytes() > settings_.limits.all.memory) {
    for (Awaited& one : awaited_) one.memory = {};
  }
  auto made = ServerSession::create(control_, workers_,
                                    {.uuid = request.session_uuid,
                                     .founder = peer,
                                     .parameters = settings_.parameters,
                                     .first_worker = sessions_made_++,
                                     .heartbeat = settings_.heartbeat},
                                    std::move(memory), *this);
  if (!made) return fail(made.error());
  if (awaited != nullptr) awaited->end.reset();
  sessions_.push_back(std::move(*made));
  return sessions_.back().get();
}

Share ServerAcceptor::held_by(const std::string* client) const {
  Share held;
  for (const auto& session : sessions_) {
    if (client == nullptr || session->founder() == *client) {
      ++held.sessions;
      held.memory += session_bytes();
    }
    for (const auto& path : session->paths()) {
      if (path->over() || (client != nullptr && path->peer_address() != *client)) continue;
      ++held.paths;
      held.connections += path->connections();
    }
  }
  return held;
}

Status ServerAcceptor::check(const Share& asked, const std::string& client) const {
  return check_limits(settings_.limits, asked, held_by(nullptr), held_by(&client));
}

std::uint64_t ServerAcceptor::session_bytes() const {
  return std::uint64_t{settings_.parameters.queue_depth} * settings_.parameters.chunk_size();
}

Result<RequestHandler*> ServerAcceptor::on_session_named(ServerSession& session) {
  for (const auto& other : sessions_) {
    if (other.get() != &session && other->name() == session.name()) {
      return fail(EPERM, fmt::format("another session is called {}", session.name()));
    }
  }
  return events_.on_session_named(session);
}

void ServerAcceptor::on_session_closed(ServerSession& session, Executor::Task done) {
  events_.on_session_closed(session, std::move(done));
}

void ServerAcceptor::on_session_ended(ServerSession& session) {
  events_.on_session_ended(session);
  control_.post([this, ended = &session] {
    if (!on_closed_) on_lost(*ended);
    std::erase_if(sessions_, [&](const auto& one) { return one.get() == ended; });
    if (sessions_.empty() && on_closed_) on_closed_();
  });
}

void ServerAcceptor::on_lost(ServerSession& session) {
  Awaited* known = find_awaited(session.uuid());
  if (session.returns()) {
    if (known == nullptr && awaited_.size() >= settings_.limits.all.sessions) forget_one();
    if (known == nullptr) known = &awaited_.emplace_back();
    known->session = session.uuid();
    known->name = session.name();
    known->memory = session.chunks().take_memory();
  }
  if (known == nullptr) return;
  if (session.returns() || !session.served()) return wait_for(*known);
  std::erase_if(awaited_, [known](const Awaited& one) { return &one == known; });
}

/// One that is back rather than one that is waited for.
void ServerAcceptor::forget_one() {
  const auto back = std::ranges::find_if(awaited_, [](const Awaited& one) { return !one.end; });
  awaited_.erase(back == awaited_.end() ? awaited_.begin() : back);
}

void ServerAcceptor::wait_for(Awaited& session) {
  session.end = control_.call_after(limits::kKeepMemory, [this, uuid = session.session] {
    control_.post([this, uuid] {
      std::erase_if(awaited_,
                    [&](const Awaited& one) { return one.session == uuid && one.end != nullptr; });
    });
  });
}

std::vector<std::string> ServerAcceptor::awaited() const {
  std::vector<std::string> names;
  for (const Awaited& one : awaited_) {
    if (one.end != nullptr) names.push_back(one.name);
  }
  return names;
}

ServerAcceptor::Awaited* ServerAcceptor::find_awaited(const Uuid& session) {
  const auto found = std::ranges::find(awaited_, session, &Awaited::session);
  return found == awaited_.end() ? nullptr : &*found;
}

std::size_t ServerAcceptor::sessions_kept() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      awaited_, [](const Awaited& one) { return !one.memory.bytes().empty(); }));
}

void ServerAcceptor::close(Executor::Task done) {
  RNBD_ASSERT(!on_closed_);
  awaited_.clear();
  on_closed_ = std::move(done);
  for (const auto& session : sessions_) session->close("the server stops");
  if (sessions_.empty()) control_.post([this] { on_closed_(); });
}

}  // namespace rnbd::rtrs
