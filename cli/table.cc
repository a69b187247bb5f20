// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/printable.h"

namespace rnbd::cli {
namespace {

constexpr std::string_view kGap = "  ";

/// Columns on a terminal, taking each character of UTF-8 as one wide.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

void append_cell(std::string& line, std::string_view cell, std::size_t columns, Align align) {
  const std::string padding(columns - width(cell), ' ');
  if (align == Align::Right) line += padding;
  line += cell;
  if (align == Align::Left) line += padding;
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  RNBD_ASSERT(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = cell.empty() ? "-" : printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::render(bool headers) const {
  std::vector<std::vector<std::string>> lines;
  if (headers) {
    auto& titles = lines.emplace_back();
    for (const Column& column : columns_) titles.push_back(column.title);
  }
  lines.insert(lines.end(), rows_.begin(), rows_.end());

  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& cells : lines) {
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], width(cells[i]));
  }
  std::string out;
  for (const auto& cells : lines) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) line += kGap;
      append_cell(line, cells[i], widths[i], columns_[i].align);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

std::string human_size(std::uint64_t bytes) {
  constexpr std::string_view kUnits = "BKMGTPE";
  auto size = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 1023.95 and more would print as 1024.0.
  while (size >= 1023.95 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  std::string number = fmt::format("{:.1f}", size);
  if (number.ends_with(".0")) number.resize(number.size() - 2);
  return number + kUnits[unit];
}

std::string human_age(std::uint64_t seconds) {
  constexpr std::uint64_t kMinute = 60;
  constexpr std::uint64_t kHour = 60 * kMinute;
  if (seconds < kMinute) return fmt::format("{}s", seconds);
  if (seconds < kHour) return fmt::format("{}m", seconds / kMinute);
  if (seconds < 48 * kHour) return fmt::format("{}h", seconds / kHour);
  return fmt::format("{}d", seconds / (24 * kHour));
}

}  // namespace rnbd::cli
