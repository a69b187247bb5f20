// SPDX-License-Identifier: Apache-2.0
#include "cli/list.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cli/table.h"

namespace rnbd::cli {
namespace {

using Json = control::Json;

std::string as_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// As `write` writes it; nothing if it is no number.
template <typename Write>
std::string as_number(const Json& value, Write write) {
  return value.is_number_unsigned() ? write(value.get<std::uint64_t>()) : std::string();
}

std::string as_size(const Json& value) { return as_number(value, human_size); }
std::string as_age(const Json& value) { return as_number(value, human_age); }
std::string as_count(const Json& value) {
  return as_number(value, [](std::uint64_t count) { return std::to_string(count); });
}
std::string as_latency(const Json& value) {
  return as_number(
      value, [](std::uint64_t us) { return us == 0 ? std::string() : std::to_string(us) + "us"; });
}

/// "UU_": a letter for each path, U if it can be used.
std::string as_paths(const Json& value) {
  std::string text;
  if (!value.is_array()) return text;
  for (const Json& path : value) {
    const auto state = path.is_object() ? path.find("state") : path.end();
    text += state != path.end() && *state == "connected" ? 'U' : '_';
  }
  return text;
}

struct Field {
  const char* title = nullptr;
  const char* name = nullptr;
  std::string (*write)(const Json& value) = as_text;
  Align align = Align::Left;
};

constexpr std::array kDeviceFields = {
    Field{"DEVICE", "device"},
    Field{"SESSION", "session"},
    Field{"MAPPING PATH", "mapping_path"},
    Field{"STATE", "state"},
    Field{"MODE", "access_mode"},
    Field{"IO", "io_mode"},
    Field{"SIZE", "size_bytes", as_size, Align::Right},
};
constexpr std::array kClientFields = {
    Field{"PATHS", "paths", as_paths},
    Field{"FOR", "state_seconds", as_age, Align::Right},
    Field{"IN FLIGHT", "in_flight", as_count, Align::Right},
};
constexpr std::array kServerFields = {
    Field{"PATHS", "paths", as_paths},
    Field{"CLIENT", "client"},
};
constexpr std::array kPathFields = {
    Field{"SESSION", "session"},
    Field{"PATH", "path"},
    Field{"STATE", "state"},
    Field{"FOR", "state_seconds", as_age, Align::Right},
    Field{"LATENCY", "latency_us", as_latency, Align::Right},
    Field{"IN FLIGHT", "in_flight", as_count, Align::Right},
    Field{"FAILOVERS", "failovers", as_count, Align::Right},
    Field{"RECONNECTS", "reconnects", as_count, Align::Right},
    Field{"LAST ERROR", "last_error"},
};

constexpr std::array kSessionFields = {
    Field{"SESSION", "session"},
    Field{"CLIENT", "client"},
    Field{"DEVICES", "devices", as_count, Align::Right},
    Field{"PATHS", "paths", as_paths},
    Field{"PINNED", "pinned_bytes", as_size, Align::Right},
};

constexpr std::array kResizedFields = {
    Field{"DEVICE", "device"},
    Field{"SESSION", "session"},
    Field{"WAS", "was_bytes", as_size, Align::Right},
    Field{"SIZE", "size_bytes", as_size, Align::Right},
};

std::string table_of(const Json& entries, const std::vector<Field>& fields, bool headers) {
  std::vector<Column> columns;
  columns.reserve(fields.size());
  for (const Field& field : fields) columns.push_back({field.title, field.align});
  Table table(std::move(columns));
  for (const Json& entry : entries) {
    std::vector<std::string> cells;
    cells.reserve(fields.size());
    for (const Field& field : fields) {
      const auto found = entry.find(field.name);
      cells.push_back(found == entry.end() ? std::string() : field.write(*found));
    }
    table.add_row(std::move(cells));
  }
  return table.render(headers);
}

}  // namespace

std::string list_table(const Json& result, ListKind kind, bool headers) {
  std::vector<Field> fields(kDeviceFields.begin(), kDeviceFields.end());
  if (kind == ListKind::Server) {
    fields.insert(fields.end(), kServerFields.begin(), kServerFields.end());
  } else {
    fields.insert(fields.end(), kClientFields.begin(), kClientFields.end());
  }
  return table_of(result.at("devices"), fields, headers);
}

std::string sessions_table(const Json& result, bool headers) {
  return table_of(result.at("sessions"), {kSessionFields.begin(), kSessionFields.end()}, headers);
}

std::string resized_table(const Json& result, bool headers) {
  return table_of(result.at("devices"), {kResizedFields.begin(), kResizedFields.end()}, headers);
}

std::string paths_table(const Json& result, bool headers) {
  return table_of(result.at("paths"), {kPathFields.begin(), kPathFields.end()}, headers);
}

}  // namespace rnbd::cli
