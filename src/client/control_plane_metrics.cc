// SPDX-License-Identifier: Apache-2.0
// ControlPlane: what it counts, for commands and for metrics.
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
                        .mapping_path = device->request().device_path});
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
  count([reply = std::make_shared<control::Reply>(std::move(reply))](
            const std::vector<control::DeviceStats>& entries) {
    control::Json list = control::Json::array();
    for (const control::DeviceStats& entry : entries) list.push_back(control::to_json(entry));
    (*reply)(control::list_result(std::move(list)));
  });
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
