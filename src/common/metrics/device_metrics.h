// SPDX-License-Identifier: Apache-2.0
// What both daemons tell of a device, under their own names.
#pragma once

#include <string>

#include "common/control/verbs.h"
#include "common/metrics/metrics_text.h"

namespace rnbd::metrics {

/// device, session, mapping_path: of whatever has these.
template <typename Entry>
Labels device_labels(const Entry& entry) {
  return {
      {"device", entry.device}, {"session", entry.session}, {"mapping_path", entry.mapping_path}};
}

/// PREFIX_device_…: operations_total, read_bytes_total, written_bytes_total, errors_total,
/// in_flight.
void add_counts(MetricsText& text, const std::string& prefix, const control::DeviceStats& stats);

/// One histogram for each `operation`: read, write, other.
void add_latencies(MetricsText& text, const std::string& name, const control::DeviceStats& stats,
                   const IoLatencies& latencies);

}  // namespace rnbd::metrics
