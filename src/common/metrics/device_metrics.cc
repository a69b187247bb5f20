// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/device_metrics.h"

#include <utility>

namespace rnbd::metrics {
namespace {

Labels with_operation(Labels labels, std::string operation) {
  labels.emplace_back("operation", std::move(operation));
  return labels;
}

}  // namespace

void add_counts(MetricsText& text, const std::string& prefix, const control::DeviceStats& stats) {
  const Labels labels = device_labels(stats);
  const auto operations = [&](const char* operation, std::uint64_t count) {
    text.count(prefix + "_device_operations_total", with_operation(labels, operation), count);
  };
  operations("read", stats.reads);
  operations("write", stats.writes);
  operations("flush", stats.flushes);
  operations("discard", stats.discards);
  operations("write_zeroes", stats.write_zeroes);
  text.count(prefix + "_device_read_bytes_total", labels, stats.read_bytes);
  text.count(prefix + "_device_written_bytes_total", labels, stats.written_bytes);
  text.count(prefix + "_device_errors_total", labels, stats.errors);
  text.set(prefix + "_device_in_flight", labels, static_cast<double>(stats.in_flight));
}

void add_latencies(MetricsText& text, const std::string& name, const control::DeviceStats& stats,
                   const IoLatencies& latencies) {
  const Labels labels = device_labels(stats);
  text.add(name, with_operation(labels, "read"), latencies.read);
  text.add(name, with_operation(labels, "write"), latencies.write);
  text.add(name, with_operation(labels, "other"), latencies.other);
}

}  // namespace rnbd::metrics
