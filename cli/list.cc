// SPDX-License-Identifier: Apache-2.0
#include "cli/list.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cli/stats.h"
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

std::string as_duration(const Json& value) {
  return as_number(value, [](std::uint64_t us) { return human_time(us * 1000); });
}

/// "blya,blub".
std::string as_names(const Json& value) {
  std::string text;
  if (!value.is_array()) return text;
  for (const Json& name : value) text += (text.empty() ? "" : ",") + as_text(name);
  return text;
}

struct Field {
  const char* title = nullptr;
  const char* name = nullptr;
  std::string (*write)(const Json& value) = as_text;
  Align align = Align::Left;
  bool usual = true;
  Colour (*colour)(std::string_view cell) = nullptr;
};

constexpr Field kStateField{"STATE", "state", as_text, Align::Left, true, colour_of_state};
constexpr Field kPathsField{"PATHS", "paths", as_paths, Align::Left, true, colour_of_paths};

constexpr std::array kDeviceFields = {
    Field{"DEVICE", "device"},
    Field{"SESSION", "session"},
    Field{"MAPPING PATH", "mapping_path"},
    kStateField,
    Field{"MODE", "access_mode"},
    Field{"IO", "io_mode"},
    Field{"SIZE", "size_bytes", as_size, Align::Right},
};
constexpr std::array kClientFields = {
    kPathsField,
    Field{"FOR", "state_seconds", as_age, Align::Right},
    Field{"IN FLIGHT", "in_flight", as_count, Align::Right},
    Field{"SERVER SIZE", "server_size_bytes", as_size, Align::Right, false},
    Field{"LAST ERROR", "last_error", as_text, Align::Left, false},
};
constexpr std::array kServerFields = {
    kPathsField,
    Field{"CLIENT", "client"},
};
constexpr std::array kPathFields = {
    Field{"SESSION", "session"},
    Field{"PATH", "path"},
    kStateField,
    Field{"FOR", "state_seconds", as_age, Align::Right},
    Field{"LATENCY", "latency_us", as_latency, Align::Right},
    Field{"IN FLIGHT", "in_flight", as_count, Align::Right},
    Field{"FAILOVERS", "failovers", as_count, Align::Right},
    Field{"RECONNECTS", "reconnects", as_count, Align::Right},
    Field{"LAST ERROR", "last_error"},
    Field{"POLICY", "policy", as_text, Align::Left, false},
    Field{"LOCAL ADDRESS", "local_address", as_text, Align::Left, false},
    Field{"PEER ADDRESS", "peer_address", as_text, Align::Left, false},
    Field{"FAILED ATTEMPTS", "failed_attempts", as_count, Align::Right, false},
};

constexpr std::array kSessionFields = {
    Field{"SESSION", "session"},
    Field{"CLIENT", "client"},
    Field{"STATE", "state", as_text, Align::Left, true, colour_of_state},
    Field{"DEVICES", "devices", as_count, Align::Right},
    kPathsField,
    Field{"PINNED", "pinned_bytes", as_size, Align::Right},
};

constexpr std::array kExportFields = {
    Field{"NAME", "name"},     Field{"PATH", "path"},
    Field{"ACCESS", "access"}, Field{"SIZE", "size_bytes", as_size, Align::Right},
    Field{"ORIGIN", "origin"}, Field{"OPENED BY", "opened_by", as_names},
};

constexpr std::array kResizedFields = {
    Field{"DEVICE", "device"},
    Field{"SESSION", "session"},
    Field{"WAS", "was_bytes", as_size, Align::Right},
    Field{"SIZE", "size_bytes", as_size, Align::Right},
};

constexpr std::array kServerEntryFields = {
    Field{"PATH", "path"},
    kStateField,
    Field{"FROM", "local_address"},
    Field{"QUEUE DEPTH", "queue_depth", as_count, Align::Right},
    Field{"MAX IO", "max_io_bytes", as_size, Align::Right},
    Field{"ANSWERED IN", "answered_in_us", as_duration, Align::Right},
    Field{"LAST ERROR", "last_error"},
};

constexpr std::array kClientSessionFields = {
    Field{"SESSION", "session"},
    kPathsField,
    Field{"DEVICES", "devices", as_count, Align::Right},
    Field{"IN FLIGHT", "in_flight", as_count, Align::Right},
    Field{"POLICY", "policy"},
};

Result<std::string> table_of(const Json& entries, const std::vector<Field>& fields,
                             const TableStyle& style) {
  std::vector<Column> columns;
  columns.reserve(fields.size());
  for (const Field& field : fields) {
    columns.push_back({field.title, field.align, field.usual, field.colour});
  }
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
  return table.render(style);
}

}  // namespace

Result<std::string> list_table(const Json& result, ListKind kind, const TableStyle& style) {
  std::vector<Field> fields(kDeviceFields.begin(), kDeviceFields.end());
  if (kind == ListKind::Server) {
    fields.insert(fields.end(), kServerFields.begin(), kServerFields.end());
  } else {
    fields.insert(fields.end(), kClientFields.begin(), kClientFields.end());
  }
  return table_of(result.at("devices"), fields, style);
}

Result<std::string> sessions_table(const Json& result, const TableStyle& style) {
  return table_of(result.at("sessions"), {kSessionFields.begin(), kSessionFields.end()}, style);
}

Result<std::string> exports_table(const Json& result, const TableStyle& style) {
  Json exports = result.at("exports");
  for (Json& one : exports) {
    if (one.value("hidden", false)) one["origin"] = one.value("origin", "") + " (hidden)";
  }
  return table_of(exports, {kExportFields.begin(), kExportFields.end()}, style);
}

Result<std::string> resized_table(const Json& result, const TableStyle& style) {
  return table_of(result.at("devices"), {kResizedFields.begin(), kResizedFields.end()}, style);
}

Result<std::string> paths_table(const Json& result, const TableStyle& style) {
  std::vector<Field> fields(kPathFields.begin(), kPathFields.end());
  Field reset{"RESET", "seconds", as_age, Align::Right, false};
  Json paths = result.at("paths");
  for (Json& path : paths) {
    const auto since_reset = path.find("since_reset");
    if (since_reset == path.end() || !since_reset->is_object()) continue;
    // Their counts since then, in place of all.
    reset.usual = true;
    path.update(Json(*since_reset));
  }
  fields.push_back(reset);
  return table_of(paths, fields, style);
}

Result<std::string> servers_table(const Json& result, const TableStyle& style) {
  return table_of(result.at("servers"), {kServerEntryFields.begin(), kServerEntryFields.end()},
                  style);
}

Result<std::string> client_sessions_table(const Json& result, const TableStyle& style) {
  return table_of(result.at("sessions"), {kClientSessionFields.begin(), kClientSessionFields.end()},
                  style);
}

}  // namespace rnbd::cli
