// SPDX-License-Identifier: Apache-2.0
#include "cli/stats.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/table.h"

namespace rnbd::cli {
namespace {

using control::Json;

constexpr const char* kSinceReset = "since_reset";

const Json& member(const Json& object, const char* name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() ? nothing : *found;
}

std::uint64_t number(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

/// What a device has counted, or since somebody has reset that.
const Json& counted(const Json& entry) {
  const Json& since_reset = member(entry, kSinceReset);
  return since_reset.is_object() ? since_reset : entry;
}

bool is_reset(const Json& entry) { return &counted(entry) != &entry; }

std::string text(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// A histogram, or several together.
struct Latency {
  std::uint64_t count = 0;
  std::uint64_t sum_ns = 0;
  std::vector<std::uint64_t> buckets;
};

void add(Latency& sum, const Json& latency) {
  sum.count += number(latency, "count");
  sum.sum_ns += number(latency, "sum_ns");
  const Json& buckets = member(latency, "buckets");
  if (!buckets.is_array()) return;
  sum.buckets.resize(std::max(sum.buckets.size(), buckets.size()));
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    sum.buckets[i] += buckets[i].is_number_unsigned() ? buckets[i].get<std::uint64_t>() : 0;
  }
}

Latency latency_of(const Json& latency) {
  Latency one;
  add(one, latency);
  return one;
}

/// Of a stage, all kinds of requests together.
Latency stage_of(const Json& entry, const std::string& stage) {
  Latency all;
  const Json& kinds = member(member(entry, "stages"), stage.c_str());
  for (const char* kind : {"read", "write", "other"}) add(all, member(kinds, kind));
  return all;
}

/// The stages that the devices have, as the daemon orders them.
std::vector<std::string> stages_of(const Json& result) {
  std::vector<std::string> names;
  for (const Json& entry : result.at("devices")) {
    const Json& stages = member(entry, "stages");
    if (!stages.is_object()) continue;
    for (const auto& [name, kinds] : stages.items()) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

std::string title_of(std::string stage, const char* rest = "") {
  for (char& letter : stage) {
    letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return stage + rest;
}

/// What so many percent took less than; nothing if nothing was counted.
std::string below(const Latency& latency, std::uint64_t percent) {
  if (latency.count == 0 || latency.buckets.empty()) return {};
  std::uint64_t seen = 0;
  std::size_t bucket = 0;
  for (const std::uint64_t one : latency.buckets) {
    seen += one;
    if (seen * 100 >= latency.count * percent) break;
    ++bucket;
  }
  return human_time(std::uint64_t{1000} << std::min<std::size_t>(bucket, 32));
}

std::uint64_t others(const Json& entry) {
  return number(entry, "flushes") + number(entry, "discards") + number(entry, "write_zeroes");
}

const Json& same_device(const Json& list, const Json& entry) {
  static const Json nothing;
  for (const Json& one : member(list, "devices")) {
    if (text(one, "device") == text(entry, "device") &&
        text(one, "session") == text(entry, "session") &&
        text(one, "mapping_path") == text(entry, "mapping_path")) {
      return one;
    }
  }
  return nothing;
}

/// How much more it is now; a daemon that has begun anew counts from zero.
std::uint64_t more(std::uint64_t then, std::uint64_t now) { return now >= then ? now - then : now; }

std::uint64_t more(const Json& before, const Json& now, const char* name) {
  return more(number(before, name), number(now, name));
}

struct Rates {
  double operations = 0;
  std::size_t place = 0;  ///< in the daemon's list
  std::vector<std::string> cells;
};

std::string mean(const Latency& before, const Latency& now) {
  const std::uint64_t count = more(before.count, now.count);
  return count == 0 ? std::string() : human_time(more(before.sum_ns, now.sum_ns) / count);
}

std::string mean(const Json& before, const Json& now, const char* name) {
  return mean(latency_of(member(before, name)), latency_of(member(now, name)));
}

Rates rates_of(const Json& before, const Json& now, const std::vector<std::string>& stages,
               double seconds) {
  const auto rate = [&](const char* name) {
    return static_cast<double>(more(before, now, name)) / seconds;
  };
  const auto count = [&](const char* name) { return fmt::format("{:.0f}", rate(name)); };
  const auto bytes = [&](const char* name) {
    return human_size(static_cast<std::uint64_t>(rate(name)));
  };
  Rates rates{
      .operations = rate("reads") + rate("writes"),
      .cells = {text(now, "device"), text(now, "session"), text(now, "mapping_path"),
                count("reads"), bytes("read_bytes"), mean(before, now, "read_latency"),
                count("writes"), bytes("written_bytes"), mean(before, now, "write_latency")}};
  for (const std::string& stage : stages) {
    rates.cells.push_back(mean(stage_of(before, stage), stage_of(now, stage)));
  }
  rates.cells.push_back(std::to_string(number(now, "in_flight")));
  rates.cells.push_back(count("errors"));
  return rates;
}

std::vector<std::string> stats_row(const Json& device, const std::vector<std::string>& stages) {
  const Json& entry = counted(device);
  const Latency read = latency_of(member(entry, "read_latency"));
  const Latency write = latency_of(member(entry, "write_latency"));
  std::vector<std::string> row = {
      text(device, "device"),
      text(device, "session"),
      text(device, "mapping_path"),
      std::to_string(number(entry, "reads")),
      human_size(number(entry, "read_bytes")),
      below(read, 50),
      below(read, 99),
      std::to_string(number(entry, "writes")),
      human_size(number(entry, "written_bytes")),
      below(write, 50),
      below(write, 99),
      std::to_string(others(entry)),
  };
  for (const std::string& stage : stages) row.push_back(below(stage_of(entry, stage), 99));
  row.push_back(std::to_string(number(entry, "errors")));
  row.push_back(is_reset(device) ? human_age(number(entry, "seconds")) : std::string());
  return row;
}

}  // namespace

Result<std::string> stats_table(const Json& result, const TableStyle& style) {
  const std::vector<std::string> stages = stages_of(result);
  std::vector<Column> columns = {{"DEVICE"},
                                 {"SESSION"},
                                 {"MAPPING PATH"},
                                 {"READS", Align::Right},
                                 {"READ", Align::Right},
                                 {"R P50", Align::Right},
                                 {"R P99", Align::Right},
                                 {"WRITES", Align::Right},
                                 {"WRITTEN", Align::Right},
                                 {"W P50", Align::Right},
                                 {"W P99", Align::Right},
                                 {"OTHERS", Align::Right}};
  for (const std::string& stage : stages) {
    columns.push_back({title_of(stage, " P99"), Align::Right});
  }
  columns.push_back({"ERRORS", Align::Right});
  const bool any_reset = std::ranges::any_of(result.at("devices"), is_reset);
  columns.push_back({"RESET", Align::Right, any_reset});
  Table table(std::move(columns));
  for (const Json& entry : result.at("devices")) table.add_row(stats_row(entry, stages));
  return table.render(style);
}

Result<std::string> top_table(const Json& before, const Json& now, double seconds,
                              const TableStyle& style) {
  const std::vector<std::string> stages = stages_of(now);
  std::vector<Column> columns = {{"DEVICE"},
                                 {"SESSION"},
                                 {"MAPPING PATH"},
                                 {"READS/S", Align::Right},
                                 {"READ/S", Align::Right},
                                 {"R LAT", Align::Right},
                                 {"WRITES/S", Align::Right},
                                 {"WRITTEN/S", Align::Right},
                                 {"W LAT", Align::Right}};
  for (const std::string& stage : stages) columns.push_back({title_of(stage), Align::Right});
  columns.push_back({"IN FLIGHT", Align::Right});
  columns.push_back({"ERRORS/S", Align::Right});
  Table table(std::move(columns));
  std::vector<Rates> rows;
  for (const Json& entry : now.at("devices")) {
    rows.push_back(rates_of(same_device(before, entry), entry, stages, seconds));
    rows.back().place = rows.size();
  }
  std::ranges::sort(rows, {},
                    [](const Rates& row) { return std::pair(-row.operations, row.place); });
  for (Rates& row : rows) table.add_row(std::move(row.cells));
  return table.render(style);
}

std::string human_time(std::uint64_t ns) {
  if (ns == 0) return {};
  if (ns < 1'000'000) return fmt::format("{}us", std::max<std::uint64_t>(ns / 1000, 1));
  if (ns < 1'000'000'000) return fmt::format("{:.1f}ms", static_cast<double>(ns) / 1e6);
  return fmt::format("{:.1f}s", static_cast<double>(ns) / 1e9);
}

}  // namespace rnbd::cli
