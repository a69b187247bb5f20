// SPDX-License-Identifier: Apache-2.0
// ControlPlane: what it counts, for commands and for metrics.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "common/control/verbs.h"
#include "common/countdown.h"
#include "server/control_plane.h"
#include "server/state_names.h"

namespace rnbd::server {
namespace {

constexpr std::size_t kServerStage = 0;
constexpr std::size_t kDiskStage = 1;

control::DeviceStats no_stats(const Export& entry) {
  return {.device = entry.device_path,
          .session = entry.session_name,
          .mapping_path = entry.mapping_path,
          .stages = {{"server", {}}, {"disk", {}}},
          // An id is used again.
          .life = fmt::format("{}/{}/{}", entry.session, entry.device_id,
                              entry.since.time_since_epoch().count())};
}

void add_to(control::DeviceStats& stats, const DeviceCount& part) {
  stats.reads += part.counters.reads;
  stats.read_bytes += part.counters.read_bytes;
  stats.writes += part.counters.writes;
  stats.written_bytes += part.counters.write_bytes;
  stats.flushes += part.counters.flushes;
  stats.discards += part.counters.discards;
  stats.write_zeroes += part.counters.zeroes;
  stats.errors += part.counters.errors;
  stats.in_flight += part.in_flight;
  stats.latencies += part.latencies.disk;
  stats.stages[kServerStage].latencies += part.latencies.server;
  stats.stages[kDiskStage].latencies += part.latencies.disk;
}

}  // namespace

void ControlPlane::count(Counted done) {
  using Key = std::pair<std::uint64_t, std::uint32_t>;  // session and device id
  const auto entries = std::make_shared<std::map<Key, control::DeviceStats>>();
  for (const Export* entry : exports_.list()) {
    (*entries)[{entry->session, entry->device_id}] = no_stats(*entry);
  }
  const Countdown one_done(peers_.size() + 1,
                           [entries, done = std::make_shared<Counted>(std::move(done))] {
                             std::vector<control::DeviceStats> list;
                             for (auto& [key, entry] : *entries) list.push_back(std::move(entry));
                             (*done)(std::move(list));
                           });
  for (const auto& peer : peers_) {
    peer->count([entries, session = peer->id(), one_done](const std::vector<DeviceCount>& parts) {
      for (const DeviceCount& part : parts) {
        const auto entry = entries->find({session, part.device_id});
        if (entry != entries->end()) add_to(entry->second, part);
      }
      one_done();
    });
  }
  one_done();
}

void ControlPlane::stats(control::Reply reply) {
  count([this, reply = std::make_shared<control::Reply>(std::move(reply))](
            const std::vector<control::DeviceStats>& entries) {
    (*reply)(control::list_result(marks_.list(entries, Clock::now())));
  });
}

void ControlPlane::reset(const control::Json& args, control::Reply reply) {
  const auto which = control::read_reset_args(args);
  if (!which) return reply(fail(which.error()));
  count([this, which = *which, reply = std::make_shared<control::Reply>(std::move(reply))](
            const std::vector<control::DeviceStats>& entries) {
    if (Status done = marks_.set(entries, which, Clock::now()); !done) {
      return (*reply)(fail(done.error()));
    }
    (*reply)(control::Json::object());
  });
}

std::uint64_t ControlPlane::open_devices(const SessionPeer& peer) const {
  return static_cast<std::uint64_t>(std::ranges::count_if(exports_.list(), [&](const Export* one) {
    return one->session == peer.id() && one->state == ExportState::Open;
  }));
}

void ControlPlane::observe(std::move_only_function<void(Observation)> done) {
  count([this, done = std::move(done)](std::vector<control::DeviceStats> counted) mutable {
    Observation seen{.stats = std::move(counted)};
    for (const Export* entry : exports_.list()) {
      seen.devices.push_back({.device = entry->device_path,
                              .session = entry->session_name,
                              .mapping_path = entry->mapping_path,
                              .state = state_name(entry->state),
                              .size_bytes = entry->size_bytes});
    }
    for (const auto& peer : peers_) {
      rtrs::ServerSession& session = peer->session();
      seen.sessions.push_back({.name = session.name(),
                               .devices = open_devices(*peer),
                               .pinned_bytes = session.chunks().memory().size()});
      for (const auto& path : session.paths()) {
        seen.paths.push_back({.session = session.name(),
                              .peer_address = path->peer_address(),
                              .local_address = path->local_address(),
                              .state = state_name(*path),
                              .in_flight = path->in_flight()});
      }
    }
    done(std::move(seen));
  });
}

}  // namespace rnbd::server
