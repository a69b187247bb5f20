// SPDX-License-Identifier: Apache-2.0
#include "client/path_control.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "client/path_words.h"

namespace rnbd::client {
namespace {

using rtrs::KeeperState;
using rtrs::PathKeeper;

const Error by_administrator = {ECANCELED, "disconnected by the administrator"};

std::string_view state_name(const PathKeeper& path) {
  switch (path.state()) {
    case KeeperState::Idle:
    case KeeperState::Connecting:
      return "connecting";
    case KeeperState::Connected:
      return path.draining() ? "draining" : "connected";
    case KeeperState::Closing:
      return "closing";
    case KeeperState::Fencing:
      return "fencing";
    case KeeperState::Waiting:
      return "waiting";
    case KeeperState::Down:
      return "disconnected";
  }
  return "disconnected";
}

std::uint64_t seconds_since(TimePoint then) {
  const auto passed = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - then);
  return static_cast<std::uint64_t>(passed.count());
}

std::optional<control::PathSinceReset> since_reset(const RnbdSession& session,
                                                   const PathKeeper& path) {
  const RnbdSession::PathMark* const mark = session.mark_of(path);
  if (mark == nullptr) return {};
  return control::PathSinceReset{.seconds = seconds_since(mark->at),
                                 .failovers = path.stats().failovers - mark->failovers,
                                 .reconnects = path.reconnects() - mark->reconnects};
}

Result<PathSpec> parse_path(const std::string& text) {
  auto paths = parse_paths(text);
  if (!paths) return fail(paths.error());
  if (paths->size() != 1) return fail(EINVAL, "one path at a time");
  return paths->front();
}

/// A source that is left out fits any, if the path is the only one to its destination.
Result<PathKeeper*> find_path(rtrs::ClientSession& session, const PathSpec& wanted) {
  std::vector<PathKeeper*> found;
  for (const auto& path : session.paths()) {
    const rtrs::Route& route = path->spec().route;
    if (wanted.destination != route.destination.text || path->ending()) continue;
    if (wanted.source == route.source.text) return path.get();
    if (wanted.source.empty()) found.push_back(path.get());
  }
  if (found.empty()) {
    return fail(ENOENT, fmt::format("session {} has no such path", session.settings().name));
  }
  if (found.size() > 1) return fail(EINVAL, "several paths lead there: say src@dst");
  return found.front();
}

Status may_lose(const rtrs::ClientSession& session, const PathKeeper& path, bool force) {
  if (force || session.can_do_without(path)) return {};
  if (!path.connected() && !session.is_only(path)) return {};
  return fail(EBUSY, fmt::format("it is the {}: I/O would wait\n"
                                 "--force does it all the same",
                                 path.connected() ? "last path that is connected" : "only path"));
}

void add_path(RnbdSession& session, const PathSpec& words, std::uint16_t port,
              const RandomSource& random, control::Reply reply) {
  rtrs::ClientSession& rtrs = session.rtrs();
  const rtrs::PathSpec spec = make_path(words, port, random);
  if (Status possible = rtrs.check_new_path(spec); !possible) {
    return reply(fail(possible.error()));
  }
  rtrs.add_path(spec, answer(std::move(reply)));
}

}  // namespace

std::string text_of(const rtrs::Route& route) {
  if (route.source.text.empty()) return route.destination.text;
  return fmt::format("{}@{}", route.source.text, route.destination.text);
}

std::move_only_function<void(Status)> answer(control::Reply reply) {
  return [reply = std::move(reply)](const Status& status) mutable {
    if (status) {
      reply(control::Json::object());
    } else {
      reply(fail(status.error()));
    }
  };
}

rtrs::PathSpec make_path(const PathSpec& words, std::uint16_t port, const RandomSource& random) {
  return {.route = {.source = {.text = words.source, .port = 0},
                    .destination = {.text = words.destination,
                                    .port = words.port == 0 ? port : words.port}},
          .uuid = random_value<rtrs::Uuid>(random)};
}

std::vector<PathSpec> path_specs(const rtrs::SessionSettings& session) {
  std::vector<PathSpec> specs;
  specs.reserve(session.paths.size());
  for (const rtrs::PathSpec& path : session.paths) {
    const rtrs::Route& route = path.route;
    specs.push_back({route.source.text, route.destination.text, route.destination.port});
  }
  return specs;
}

std::vector<control::PathEntry> path_entries(RnbdSession& session) {
  std::vector<control::PathEntry> entries;
  for (const auto& path : session.rtrs().paths()) {
    if (path->ending()) continue;
    entries.push_back({.session = session.name(),
                       .path = text_of(path->spec().route),
                       .state = std::string(state_name(*path)),
                       .state_seconds = seconds_since(session.since(*path)),
                       .policy = std::string(name_of(session.rtrs().policy())),
                       .local_address = path->local_address(),
                       .peer_address = path->peer_address(),
                       .latency_us = path->stats().latency_ns / 1000,
                       .in_flight = session.rtrs().in_flight(*path),
                       .failovers = path->stats().failovers,
                       .reconnects = path->reconnects(),
                       .failed_attempts = path->failed_attempts(),
                       .last_error = path->last_error(),
                       .since_reset = since_reset(session, *path)});
  }
  return entries;
}

void list_paths(RnbdSession& session, control::Json& entries) {
  for (const control::PathEntry& entry : path_entries(session)) {
    entries.push_back(control::to_json(entry));
  }
}

std::optional<control::Json> path_event(const RnbdSession& session, const PathKeeper& path,
                                        std::string& told) {
  std::string_view state = "connected";
  if (path.ending()) {
    if (told.empty()) return {};
    state = "removed";
  } else if (path.state() == KeeperState::Down) {
    state = "disconnected";
  } else if (!path.connected()) {
    state = told.empty() ? "connecting" : "lost";
  } else if (path.draining()) {
    state = "draining";
  }
  // Attempts that fail like the one before are no news.
  if (state == told || (state == "lost" && told == "connecting")) return {};
  told = path.ending() ? std::string_view() : state;
  control::Json event = {
      {"session", session.name()}, {"path", text_of(path.spec().route)}, {"state", state}};
  if (state == "lost" || state == "disconnected") event["reason"] = path.last_error();
  return event;
}

Status reset_path(RnbdSession& session, const std::string& path) {
  const auto words = parse_path(path);
  if (!words) return fail(words.error());
  const auto found = find_path(session.rtrs(), *words);
  if (!found) return fail(found.error());
  session.mark(**found);
  return {};
}

void change_path(RnbdSession& session, const control::PathArgs& args, const RandomSource& random,
                 control::Reply reply) {
  const auto words = parse_path(args.path);
  if (!words) return reply(fail(words.error()));
  if (args.action == "add") {
    return add_path(session, *words, args.port, random, std::move(reply));
  }

  const auto found = find_path(session.rtrs(), *words);
  if (!found) return reply(fail(found.error()));
  PathKeeper& path = **found;
  if (args.action == "reconnect") return path.reconnect(answer(std::move(reply)));
  if (Status may = may_lose(session.rtrs(), path, args.force); !may) {
    return reply(fail(may.error()));
  }
  if (args.action == "drain") return path.drain(answer(std::move(reply)));
  if (args.action == "remove") {
    session.rtrs().remove_path(
        path, [reply = std::move(reply)]() mutable { reply(control::Json::object()); });
    return;
  }
  path.disconnect(by_administrator);
  reply(control::Json::object());
}

}  // namespace rnbd::client
