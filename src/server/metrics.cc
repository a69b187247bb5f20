// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <array>
#include <string_view>

#include "common/metrics/device_metrics.h"
#include "common/version.h"
#include "server/state_names.h"

namespace rnbd::server {
namespace {

using control::DeviceStats;
using metrics::Definition;
using Metric = metrics::Kind;
using metrics::Labels;
using metrics::MetricsText;

constexpr const char* kOfDevice = "device,session,mapping_path";
constexpr const char* kOfOperation = "device,session,mapping_path,operation";

constexpr std::array kDefinitions = {
    Definition{"rnbd_server_build_info", Metric::Gauge, "version", "1, of the program's version."},
    Definition{"rnbd_server_device_operations_total", Metric::Counter, kOfOperation,
               "Requests that went to the disk: read, write, flush, discard, write_zeroes."},
    Definition{"rnbd_server_device_read_bytes_total", Metric::Counter, kOfDevice,
               "Bytes of the reads that went to the disk."},
    Definition{"rnbd_server_device_written_bytes_total", Metric::Counter, kOfDevice,
               "Bytes of the writes that went to the disk."},
    Definition{"rnbd_server_device_errors_total", Metric::Counter, kOfDevice,
               "Requests that were answered with an error."},
    Definition{"rnbd_server_device_in_flight", Metric::Gauge, kOfDevice,
               "Requests that are at the disk."},
    Definition{"rnbd_server_device_size_bytes", Metric::Gauge, kOfDevice, "Size of the disk."},
    Definition{"rnbd_server_device_state", Metric::Gauge, "device,session,mapping_path,state",
               "1 for the state that the device is in: open, closed."},
    Definition{"rnbd_server_request_seconds", Metric::Histogram, kOfOperation,
               "From a request's arrival to its answer: read, write, other."},
    Definition{"rnbd_server_disk_seconds", Metric::Histogram, kOfOperation,
               "Of it: what the disk took."},
    Definition{"rnbd_server_session_devices", Metric::Gauge, "session",
               "Devices that the session has open."},
    Definition{"rnbd_server_session_pinned_bytes", Metric::Gauge, "session",
               "Memory of this host that the session pins."},
    Definition{"rnbd_server_path_state", Metric::Gauge, "session,peer_address,local_address,state",
               "1 for the state that the path is in: connecting, connected, closing, draining."},
    Definition{"rnbd_server_path_in_flight", Metric::Gauge, "session,peer_address,local_address",
               "Requests that came on it and are not answered yet."},
};

void add(MetricsText& text, const DeviceStats& stats) {
  metrics::add_counts(text, "rnbd_server", stats);
  for (const control::StageStats& stage : stats.stages) {
    const bool whole = stage.stage == "server";
    metrics::add_latencies(text, whole ? "rnbd_server_request_seconds" : "rnbd_server_disk_seconds",
                           stats, stage.latencies);
  }
}

void add(MetricsText& text, const Observation::Device& device) {
  const Labels labels = metrics::device_labels(device);
  text.set("rnbd_server_device_size_bytes", labels, static_cast<double>(device.size_bytes));
  text.set_state("rnbd_server_device_state", labels, kExportStateNames, device.state);
}

void add(MetricsText& text, const Observation::Session& session) {
  const Labels labels = {{"session", session.name}};
  text.set("rnbd_server_session_devices", labels, static_cast<double>(session.devices));
  text.set("rnbd_server_session_pinned_bytes", labels, static_cast<double>(session.pinned_bytes));
}

void add(MetricsText& text, const Observation::Path& path) {
  const Labels labels = {{"session", path.session},
                         {"peer_address", path.peer_address},
                         {"local_address", path.local_address}};
  text.set_state("rnbd_server_path_state", labels, kPathStateNames, path.state);
  text.set("rnbd_server_path_in_flight", labels, static_cast<double>(path.in_flight));
}

}  // namespace

std::span<const Definition> metric_definitions() { return kDefinitions; }

std::string metrics_page(const Observation& seen) {
  MetricsText text(kDefinitions);
  text.set("rnbd_server_build_info", {{"version", version()}}, 1);
  for (const DeviceStats& one : seen.stats) add(text, one);
  for (const Observation::Device& one : seen.devices) add(text, one);
  for (const Observation::Session& one : seen.sessions) add(text, one);
  for (const Observation::Path& one : seen.paths) add(text, one);
  return text.text();
}

}  // namespace rnbd::server
