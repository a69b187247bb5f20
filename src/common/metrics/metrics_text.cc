// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/metrics_text.h"

#include <algorithm>
#include <array>
#include <limits>
#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>

#include "common/assert.h"
#include "common/printable.h"

namespace rnbd::metrics {
namespace {

/// Which powers of two of a microsecond are bounds: all of them where disks and networks are, each
/// second one elsewhere. 1 us, 4 us, 8 us … 1 ms, 4 ms … 4.2 s.
constexpr std::array<std::size_t, 16> kBounds = {0, 2,  3,  4,  5,  6,  7,  8,
                                                 9, 10, 12, 14, 16, 18, 20, 22};
static_assert(kBounds.back() < LatencyHistogram::kBuckets - 1, "the last bucket has no bound");

constexpr double kMicrosecond = 1e-6;
constexpr double kNanosecond = 1e-9;

prometheus::MetricType type_of(Kind kind) {
  switch (kind) {
    case Kind::Counter:
      return prometheus::MetricType::Counter;
    case Kind::Gauge:
      return prometheus::MetricType::Gauge;
    case Kind::Histogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

/// A label is text in UTF-8; names come from peers.
std::string clean(const std::string& value) {
  using nlohmann::json;
  const std::string quoted =
      json(printable(value)).dump(-1, ' ', false, json::error_handler_t::replace);
  return json::parse(quoted).get<std::string>();
}

void add_to(prometheus::ClientMetric::Histogram& sum, const LatencyHistogram& latency) {
  if (sum.bucket.empty()) {
    for (const std::size_t bound : kBounds) {
      const auto upper = static_cast<double>(std::uint64_t{1} << bound) * kMicrosecond;
      sum.bucket.push_back({.cumulative_count = 0, .upper_bound = upper});
    }
    sum.bucket.push_back({.upper_bound = std::numeric_limits<double>::infinity()});
  }
  std::uint64_t below = 0;
  std::size_t next = 0;
  for (std::size_t i = 0; i < kBounds.size(); ++i) {
    while (next <= kBounds[i]) below += latency.buckets[next++];
    sum.bucket[i].cumulative_count += below;
  }
  sum.bucket.back().cumulative_count += latency.count();
  sum.sample_count += latency.count();
  sum.sample_sum += static_cast<double>(latency.sum_ns) * kNanosecond;
}

}  // namespace

MetricsText::MetricsText(std::span<const Definition> definitions) {
  for (const Definition& one : definitions) {
    Family& added = families_.emplace_back();
    added.family.name = one.name;
    added.family.help = one.help;
    added.family.type = type_of(one.kind);
  }
}

prometheus::ClientMetric& MetricsText::find(std::string_view name, const Labels& labels,
                                            Kind kind) {
  const auto found =
      std::ranges::find_if(families_, [&](const Family& one) { return one.family.name == name; });
  RNBD_ASSERT(found != families_.end() && found->family.type == type_of(kind));
  Labels cleaned = labels;
  for (auto& [label, value] : cleaned) value = clean(value);
  auto& metrics = found->family.metric;
  const auto [series, is_new] = found->series.try_emplace(std::move(cleaned), metrics.size());
  if (is_new) {
    auto& added = metrics.emplace_back();
    for (const auto& [label, value] : series->first) added.label.push_back({label, value});
  }
  return metrics[series->second];
}

void MetricsText::count(std::string_view name, const Labels& labels, std::uint64_t more) {
  find(name, labels, Kind::Counter).counter.value += static_cast<double>(more);
}

void MetricsText::set(std::string_view name, const Labels& labels, double value) {
  find(name, labels, Kind::Gauge).gauge.value = value;
}

void MetricsText::add(std::string_view name, const Labels& labels,
                      const LatencyHistogram& latency) {
  add_to(find(name, labels, Kind::Histogram).histogram, latency);
}

void MetricsText::set_state(std::string_view name, const Labels& labels,
                            std::span<const std::string_view> states, std::string_view now) {
  for (const std::string_view state : states) {
    Labels with_state = labels;
    with_state.emplace_back("state", state);
    set(name, with_state, state == now ? 1 : 0);
  }
}

std::string MetricsText::text() const {
  std::vector<prometheus::MetricFamily> families;
  families.reserve(families_.size());
  for (const Family& one : families_) families.push_back(one.family);
  const prometheus::TextSerializer serializer;
  return static_cast<const prometheus::Serializer&>(serializer).Serialize(families);
}

}  // namespace rnbd::metrics
