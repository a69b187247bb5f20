// SPDX-License-Identifier: Apache-2.0
// ControlPlane: what it counts, for commands and for metrics.
#include <cerrno>
#include <memory>
#include <utility>

#include "client/control_plane.h"
#include "client/path_control.h"
#include "common/control/verbs.h"
#include "common/countdown.h"

namespace rnbd::client {
namespace {

void fill(control::DeviceStats& stats, const BlockQueueCounters& counted) {
  stats.reads = counted.reads;
  stats.read_bytes = counted.read_bytes;
  stats.writes = counted.writes;
  stats.written_bytes = counted.written_bytes;
  stats.flushes = counted.flushes;
  stats.discards = counted.discards;
  stats.write_zeroes = counted.zeroes;
  stats.errors = counted.errors;
  stats.in_flight = counted.in_flight;
  stats.permit_waits = counted.permit_waits;
  stats.latencies = counted.latencies;
  stats.stages = {{"queue", counted.queue_latencies}, {"wire", counted.wire_latencies}};
}

}  // namespace

/// In the order of `list`, whichever device answers first.
void ControlPlane::count(Counted done) {
  const auto entries = std::make_shared<std::vector<control::DeviceStats>>();
  std::vector<Device*> devices;
  for (const auto& device : devices_) {
    if (device->node().empty()) continue;
    devices.push_back(device.get());
    entries->push_back({.device = device->node(),
                        .session = device->request().session_name,
                        .mapping_path = device->request().device_path,
                        .life = device->name()});
  }
  const Countdown one_done(devices.size() + 1,
                           [entries, done = std::make_shared<Counted>(std::move(done))] {
                             (*done)(std::move(*entries));
                           });
  for (std::size_t i = 0; i < devices.size(); ++i) {
    devices[i]->count([entries, i, one_done](const BlockQueueCounters& counted) {
      fill((*entries)[i], counted);
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
    Status done = marks_.set(entries, which, Clock::now());
    if (done) done = reset_paths(which);
    if (!done) return (*reply)(fail(done.error()));
    (*reply)(control::Json::object());
  });
}

Status ControlPlane::reset_paths(const control::ResetArgs& which) {
  for (const auto& session : sessions_) {
    if (!which.everything) break;
    for (const auto& path : session->rtrs().paths()) {
      if (!path->ending()) session->mark(*path);
    }
  }
  for (const control::SessionPart& wanted : which.paths) {
    RnbdSession* const session = find_session(wanted.session);
    if (session == nullptr) return fail(ENOENT, "there is no session " + wanted.session);
    if (Status done = reset_path(*session, wanted.name); !done) return done;
  }
  return {};
}

void ControlPlane::observe(std::move_only_function<void(Observation)> done) {
  count([this, done = std::move(done)](std::vector<control::DeviceStats> counted) mutable {
    Observation seen{.stats = std::move(counted)};
    for (const auto& device : devices_) {
      if (!device->node().empty()) seen.devices.push_back(device->entry());
    }
    for (const auto& session : sessions_) {
      seen.sessions.push_back({.name = session->name(),
                               .pinned_bytes = session->rtrs().memory_bytes(),
                               .reconnects = session->rtrs().reconnects()});
      for (control::PathEntry& path : path_entries(*session)) {
        seen.paths.push_back(std::move(path));
      }
    }
    done(std::move(seen));
  });
}

}  // namespace rnbd::client
