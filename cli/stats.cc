// SPDX-License-Identifier: Apache-2.0
#include "cli/stats.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/table.h"

namespace rnbd::cli {
namespace {

using control::Json;

const Json& member(const Json& object, const char* name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() ? nothing : *found;
}

std::uint64_t number(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

std::string text(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// What so many percent took less than; nothing if nothing was counted.
std::string below(const Json& latency, std::uint64_t percent) {
  const std::uint64_t count = number(latency, "count");
  const Json& buckets = member(latency, "buckets");
  if (count == 0 || !buckets.is_array()) return {};
  std::uint64_t seen = 0;
  std::size_t bucket = 0;
  for (const Json& one : buckets) {
    seen += one.is_number_unsigned() ? one.get<std::uint64_t>() : 0;
    if (seen * 100 >= count * percent) break;
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
std::uint64_t more(const Json& before, const Json& now, const char* name) {
  const std::uint64_t then = number(before, name);
  const std::uint64_t count = number(now, name);
  return count >= then ? count - then : count;
}

struct Rates {
  double operations = 0;
  std::size_t place = 0;  ///< in the daemon's list
  std::vector<std::string> cells;
};

std::string mean(const Json& before, const Json& now, const char* name) {
  const std::uint64_t count = more(member(before, name), member(now, name), "count");
  return count == 0 ? std::string()
                    : human_time(more(member(before, name), member(now, name), "sum_ns") / count);
}

Rates rates_of(const Json& before, const Json& now, double seconds) {
  const auto rate = [&](const char* name) {
    return static_cast<double>(more(before, now, name)) / seconds;
  };
  const auto count = [&](const char* name) { return fmt::format("{:.0f}", rate(name)); };
  const auto bytes = [&](const char* name) {
    return human_size(static_cast<std::uint64_t>(rate(name)));
  };
  return {.operations = rate("reads") + rate("writes"),
          .cells = {text(now, "device"), text(now, "session"), text(now, "mapping_path"),
                    count("reads"), bytes("read_bytes"), mean(before, now, "read_latency"),
                    count("writes"), bytes("written_bytes"), mean(before, now, "write_latency"),
                    std::to_string(number(now, "in_flight")), count("errors")}};
}

}  // namespace

Result<std::string> stats_table(const Json& result, const TableStyle& style) {
  Table table({{"DEVICE"},
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
               {"OTHERS", Align::Right},
               {"ERRORS", Align::Right}});
  for (const Json& entry : result.at("devices")) {
    const Json& read = member(entry, "read_latency");
    const Json& write = member(entry, "write_latency");
    table.add_row({text(entry, "device"), text(entry, "session"), text(entry, "mapping_path"),
                   std::to_string(number(entry, "reads")), human_size(number(entry, "read_bytes")),
                   below(read, 50), below(read, 99), std::to_string(number(entry, "writes")),
                   human_size(number(entry, "written_bytes")), below(write, 50), below(write, 99),
                   std::to_string(others(entry)), std::to_string(number(entry, "errors"))});
  }
  return table.render(style);
}

Result<std::string> top_table(const Json& before, const Json& now, double seconds,
                              const TableStyle& style) {
  Table table({{"DEVICE"},
               {"SESSION"},
               {"MAPPING PATH"},
               {"READS/S", Align::Right},
               {"READ/S", Align::Right},
               {"R LAT", Align::Right},
               {"WRITES/S", Align::Right},
               {"WRITTEN/S", Align::Right},
               {"W LAT", Align::Right},
               {"IN FLIGHT", Align::Right},
               {"ERRORS/S", Align::Right}});
  std::vector<Rates> rows;
  for (const Json& entry : now.at("devices")) {
    rows.push_back(rates_of(same_device(before, entry), entry, seconds));
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
