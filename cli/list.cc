// SPDX-License-Identifier: Apache-2.0
#include "cli/list.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cli/table.h"

namespace rnbd::cli {
namespace {

struct Field {
  const char* title = nullptr;
  const char* name = nullptr;
  Align align = Align::Left;
};

constexpr std::array kFields = {
    Field{"DEVICE", "device"},
    Field{"SESSION", "session"},
    Field{"MAPPING PATH", "mapping_path"},
    Field{"STATE", "state"},
    Field{"MODE", "access_mode"},
    Field{"IO", "io_mode"},
    Field{"SIZE", "size_bytes", Align::Right},
    Field{"CLIENT", "client"},
};

/// Text as it is, a number as a size: the only numbers shown are sizes.
std::string cell(const control::Json& device, const Field& field) {
  const auto found = device.find(field.name);
  if (found == device.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_unsigned()) return human_size(found->get<std::uint64_t>());
  return {};
}

}  // namespace

std::string list_table(const control::Json& result, ListKind kind, bool headers) {
  const std::size_t count = kind == ListKind::Server ? kFields.size() : kFields.size() - 1;
  std::vector<Column> columns;
  columns.reserve(count);
  for (std::size_t i = 0; i < count; ++i) columns.push_back({kFields[i].title, kFields[i].align});
  Table table(std::move(columns));
  for (const control::Json& device : result.at("devices")) {
    std::vector<std::string> cells;
    cells.reserve(count);
    for (std::size_t i = 0; i < count; ++i) cells.push_back(cell(device, kFields[i]));
    table.add_row(std::move(cells));
  }
  return table.render(headers);
}

}  // namespace rnbd::cli
