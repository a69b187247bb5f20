// SPDX-License-Identifier: Apache-2.0
#include "client/metrics.h"

#include <array>
#include <string_view>

#include "common/metrics/device_metrics.h"
#include "common/version.h"

namespace rnbd::client {
namespace {

using control::DeviceEntry;
using control::DeviceStats;
using control::PathEntry;
using metrics::Definition;
using Metric = metrics::Kind;
using metrics::Labels;
using metrics::MetricsText;

constexpr const char* kOfDevice = "device,session,mapping_path";
constexpr const char* kOfOperation = "device,session,mapping_path,operation";
constexpr const char* kOfPath = "session,path";

constexpr std::array kDefinitions = {
    Definition{"rnbd_client_build_info", Metric::Gauge, "version", "1, of the program's version."},
    Definition{"rnbd_client_device_operations_total", Metric::Counter, kOfOperation,
               "Requests of the kernel that were answered: read, write, flush, discard, "
               "write_zeroes."},
    Definition{"rnbd_client_device_read_bytes_total", Metric::Counter, kOfDevice,
               "Bytes read, of requests that succeeded."},
    Definition{"rnbd_client_device_written_bytes_total", Metric::Counter, kOfDevice,
               "Bytes written, of requests that succeeded."},
    Definition{"rnbd_client_device_errors_total", Metric::Counter, kOfDevice,
               "Requests that were answered with an error."},
    Definition{"rnbd_client_device_permit_waits_total", Metric::Counter, kOfDevice,
               "How often a request found no free chunk of the server."},
    Definition{"rnbd_client_device_in_flight", Metric::Gauge, kOfDevice,
               "Requests taken from the kernel and not answered yet."},
    Definition{"rnbd_client_device_size_bytes", Metric::Gauge, kOfDevice,
               "Size of the device, as the kernel has it."},
    Definition{"rnbd_client_device_server_size_bytes", Metric::Gauge, kOfDevice,
               "Size of the disk, as the server last said."},
    Definition{"rnbd_client_device_state", Metric::Gauge, "device,session,mapping_path,state",
               "1 for the state that the device is in: open, queueing, failing, closed."},
    Definition{"rnbd_client_request_seconds", Metric::Histogram, kOfOperation,
               "From a request's header to its answer, as the kernel sees it: read, write, other."},
    Definition{"rnbd_client_queue_seconds", Metric::Histogram, kOfOperation,
               "Of it: until the request was handed to a path."},
    Definition{"rnbd_client_wire_seconds", Metric::Histogram, kOfOperation,
               "Of it: from then to the answer, which is the network and the server."},
    Definition{"rnbd_client_session_pinned_bytes", Metric::Gauge, "session",
               "Memory of this host that the session's buffers pin."},
    Definition{"rnbd_client_session_reconnects_total", Metric::Counter, "session",
               "How often the session came back after its last path was lost."},
    Definition{"rnbd_client_path_state", Metric::Gauge, "session,path,state",
               "1 for the state that the path is in: connecting, connected, draining, closing, "
               "fencing, waiting, disconnected."},
    Definition{"rnbd_client_path_latency_seconds", Metric::Gauge, kOfPath,
               "Round trip of the last heartbeat; 0 if there was none."},
    Definition{"rnbd_client_path_in_flight", Metric::Gauge, kOfPath,
               "Requests on their way on it."},
    Definition{"rnbd_client_path_failovers_total", Metric::Counter, kOfPath,
               "Requests that had to be sent again because the path was lost."},
    Definition{"rnbd_client_path_reconnects_total", Metric::Counter, kOfPath,
               "How often the path was connected again."},
    Definition{"rnbd_client_path_failed_attempts", Metric::Gauge, kOfPath,
               "Attempts to connect that have failed in a row."},
};

constexpr std::array<std::string_view, 4> kDeviceStates = {"open", "queueing", "failing", "closed"};
constexpr std::array<std::string_view, 7> kPathStates = {
    "connecting", "connected", "draining", "closing", "fencing", "waiting", "disconnected"};

void add(MetricsText& text, const DeviceStats& stats) {
  metrics::add_counts(text, "rnbd_client", stats);
  text.count("rnbd_client_device_permit_waits_total", metrics::device_labels(stats),
             stats.permit_waits);
  metrics::add_latencies(text, "rnbd_client_request_seconds", stats, stats.latencies);
  for (const control::StageStats& stage : stats.stages) {
    metrics::add_latencies(text, "rnbd_client_" + stage.stage + "_seconds", stats, stage.latencies);
  }
}

void add(MetricsText& text, const DeviceEntry& entry) {
  const Labels labels = metrics::device_labels(entry);
  text.set("rnbd_client_device_size_bytes", labels, static_cast<double>(entry.size_bytes));
  text.set("rnbd_client_device_server_size_bytes", labels,
           static_cast<double>(entry.server_size_bytes));
  text.set_state("rnbd_client_device_state", labels, kDeviceStates, entry.state);
}

void add(MetricsText& text, const PathEntry& entry) {
  constexpr double kMicrosecond = 1e-6;
  const Labels labels = {{"session", entry.session}, {"path", entry.path}};
  text.set_state("rnbd_client_path_state", labels, kPathStates, entry.state);
  text.set("rnbd_client_path_latency_seconds", labels,
           static_cast<double>(entry.latency_us) * kMicrosecond);
  text.set("rnbd_client_path_in_flight", labels, static_cast<double>(entry.in_flight));
  text.count("rnbd_client_path_failovers_total", labels, entry.failovers);
  text.count("rnbd_client_path_reconnects_total", labels, entry.reconnects);
  text.set("rnbd_client_path_failed_attempts", labels, static_cast<double>(entry.failed_attempts));
}

void add(MetricsText& text, const Observation::Session& session) {
  const Labels labels = {{"session", session.name}};
  text.set("rnbd_client_session_pinned_bytes", labels, static_cast<double>(session.pinned_bytes));
  text.count("rnbd_client_session_reconnects_total", labels, session.reconnects);
}

}  // namespace

std::span<const Definition> metric_definitions() { return kDefinitions; }

std::string metrics_page(const Observation& seen) {
  MetricsText text(kDefinitions);
  text.set("rnbd_client_build_info", {{"version", version()}}, 1);
  for (const DeviceStats& one : seen.stats) add(text, one);
  for (const DeviceEntry& one : seen.devices) add(text, one);
  for (const Observation::Session& one : seen.sessions) add(text, one);
  for (const PathEntry& one : seen.paths) add(text, one);
  return text.text();
}

}  // namespace rnbd::client
