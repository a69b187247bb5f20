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
    log::warn("refused a connection of {}: {}", peer, describe(admitted.error()));
  }
  // Without an errno a kernel client would not notice the reject.
  endpoint->reject(bytes_of(make_reject(admitted.error().code)));
}

Status ServerAcceptor::admit(const ConnectRequest& request,
                             std::unique_ptr<transport::Endpoint>& endpoint) {
  if (on_closed_) return fail(ECONNREFUSED, "the server is stopping");
  auto session = find_or_make(request);
  if (!session) return fail(session.error());
  return (*session)->add(request, endpoint);
}

Result<ServerSession*> ServerAcceptor::find_or_make(const ConnectRequest& request) {
  for (const auto& session : sessions_) {
    if (session->uuid() == request.session_uuid) return session.get();
  }
  if ((request.flags & kFirstConnection) == 0) {
    return fail(ENXIO, "a further path of a session that is not known here");
  }
  const bool awaited = std::ranges::any_of(
      kept_, [&](const Kept& one) { return one.session == request.session_uuid; });
  if (refuses_new_ && !awaited) {
    return fail(ESHUTDOWN, "a new session, and the server is being drained");
  }
  if (sessions_.size() >= limits::kMaxSessions) {
    return fail(ENOMEM, fmt::format("{} sessions are enough", limits::kMaxSessions));
  }
  MemoryBlock memory = take_kept(request.session_uuid);
  if ((sessions_.size() + kept_.size() + 1) * session_bytes() > settings_.memory_limit) {
    kept_.clear();
  }
  if ((sessions_.size() + 1) * session_bytes() > settings_.memory_limit) {
    return fail(ENOMEM,
                fmt::format("{} sessions hold {} MiB each; the limit for all is {} MiB",
                            sessions_.size(), session_bytes() >> 20, settings_.memory_limit >> 20));
  }
  auto made = ServerSession::create(control_, workers_,
                                    {.uuid = request.session_uuid,
                                     .parameters = settings_.parameters,
                                     .first_worker = sessions_made_++,
                                     .heartbeat = settings_.heartbeat},
                                    std::move(memory), *this);
  if (!made) return fail(made.error());
  sessions_.push_back(std::move(*made));
  return sessions_.back().get();
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
    if (ended->returns() && !on_closed_) keep_memory(*ended);
    std::erase_if(sessions_, [&](const auto& one) { return one.get() == ended; });
    if (sessions_.empty() && on_closed_) on_closed_();
  });
}

void ServerAcceptor::keep_memory(ServerSession& session) {
  const Uuid uuid = session.uuid();
  kept_.push_back({uuid, session.name(), session.chunks().take_memory(),
                   control_.call_after(limits::kKeepMemory, [this, uuid] {
                     control_.post([this, uuid] { take_kept(uuid); });
                   })});
}

std::vector<std::string> ServerAcceptor::awaited() const {
  std::vector<std::string> names;
  names.reserve(kept_.size());
  for (const Kept& one : kept_) names.push_back(one.name);
  return names;
}

MemoryBlock ServerAcceptor::take_kept(const Uuid& session) {
  const auto found = std::ranges::find(kept_, session, [](const Kept& one) { return one.session; });
  if (found == kept_.end()) return {};
  MemoryBlock memory = std::move(found->memory);
  kept_.erase(found);
  return memory;
}

void ServerAcceptor::close(Executor::Task done) {
  RNBD_ASSERT(!on_closed_);
  kept_.clear();
  on_closed_ = std::move(done);
  for (const auto& session : sessions_) session->close("the server stops");
  if (sessions_.empty()) control_.post([this] { on_closed_(); });
}

}  // namespace rnbd::rtrs
