// SPDX-License-Identifier: Apache-2.0
// Numbers as Prometheus reads them: families with labels, in its text format. Made anew for each
// scrape; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <prometheus/metric_family.h>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/latency.h"

namespace rnbd::metrics {

enum class Kind : std::uint8_t { Counter, Gauge, Histogram };

/// A family that a daemon has. Both daemons list theirs, and docs/monitoring says the same.
struct Definition {
  const char* name;
  Kind kind;
  const char* labels;  ///< with commas between them
  const char* help;
};

/// Names with values, in the order of Definition::labels. A value may be any bytes.
using Labels = std::vector<std::pair<std::string, std::string>>;

class MetricsText {
 public:
  explicit MetricsText(std::span<const Definition> definitions);

  // `name` is one of the definitions'. What is named twice is one series: counts add up.
  void count(std::string_view name, const Labels& labels, std::uint64_t more);
  void set(std::string_view name, const Labels& labels, double value);
  void add(std::string_view name, const Labels& labels, const LatencyHistogram& latency);

  /// 1 for the label `state` that is `now`, 0 for the others of `states`.
  void set_state(std::string_view name, const Labels& labels,
                 std::span<const std::string_view> states, std::string_view now);

  /// All families, in the order of their definitions.
  [[nodiscard]] std::string text() const;

 private:
  struct Family {
    prometheus::MetricFamily family;
    std::map<Labels, std::size_t> series;
  };
  prometheus::ClientMetric& find(std::string_view name, const Labels& labels, Kind kind);

  std::vector<Family> families_;
};

}  // namespace rnbd::metrics
