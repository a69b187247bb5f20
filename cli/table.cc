// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>

#include <fmt/format.h>
#include <fmt/ranges.h>

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

std::string_view code_of(Colour colour) {
  switch (colour) {
    case Colour::None:
      return {};
    case Colour::Green:
      return "\x1b[32m";
    case Colour::Yellow:
      return "\x1b[33m";
    case Colour::Red:
      return "\x1b[31m";
  }
  return {};
}

std::string painted(std::string_view cell, Colour colour) {
  if (colour == Colour::None) return std::string(cell);
  return fmt::format("{}{}\x1b[0m", code_of(colour), cell);
}

/// "MAPPING PATH" as users write it: "mapping_path".
std::string key_of(std::string_view title) {
  std::string key(title);
  std::ranges::transform(key, key.begin(), [](unsigned char c) {
    return c == ' ' ? '_' : static_cast<char>(std::tolower(c));
  });
  return key;
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  RNBD_ASSERT(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = cell.empty() ? "-" : printable(cell);
  rows_.push_back(std::move(cells));
}

Result<std::vector<std::size_t>> Table::chosen(const std::string& columns) const {
  std::vector<std::size_t> chosen;
  const bool changes = columns.empty() || columns.front() == '+' || columns.front() == '-';
  for (std::size_t i = 0; changes && i < columns_.size(); ++i) {
    if (columns_[i].usual) chosen.push_back(i);
  }
  std::vector<std::string> keys;
  keys.reserve(columns_.size());
  for (const Column& column : columns_) keys.push_back(key_of(column.title));
  for (std::size_t at = 0; at < columns.size();) {
    const std::size_t end = std::min(columns.find(',', at), columns.size());
    std::string_view word = std::string_view(columns).substr(at, end - at);
    at = end + 1;
    const bool less = word.starts_with('-');
    if (less || word.starts_with('+')) word.remove_prefix(1);
    const auto found = std::ranges::find(keys, word);
    if (found == keys.end()) {
      return fail(EINVAL,
                  fmt::format("there is no column '{}', but: {}", word, fmt::join(keys, ", ")));
    }
    const auto index = static_cast<std::size_t>(found - keys.begin());
    std::erase(chosen, index);
    if (!less) chosen.push_back(index);
  }
  return chosen;
}

std::string Table::line(const std::vector<std::string>& cells,
                        const std::vector<std::size_t>& columns,
                        const std::vector<std::size_t>& widths, bool colours) const {
  std::string line;
  for (const std::size_t i : columns) {
    const Column& column = columns_[i];
    const bool last = i == columns.back();
    const std::string padding(widths[i] - width(cells[i]), ' ');
    const bool paint = colours && column.colour != nullptr;
    const std::string cell = paint ? painted(cells[i], column.colour(cells[i])) : cells[i];
    if (column.align == Align::Right) line += padding;
    line += cell;
    if (last) continue;
    if (column.align == Align::Left) line += padding;
    line += kGap;
  }
  return line + '\n';
}

Result<std::string> Table::render(const TableStyle& style) const {
  const auto columns = chosen(style.columns);
  if (!columns) return fail(columns.error());
  std::vector<std::string> titles;
  std::vector<std::size_t> widths(columns_.size(), 0);
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    if (style.headers) widths[i] = width(titles[i]);
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  if (style.headers) out += line(titles, *columns, widths, false);
  for (const auto& row : rows_) out += line(row, *columns, widths, style.colours);
  return out;
}

Colour colour_of_state(std::string_view state) {
  constexpr std::array<std::string_view, 3> kWell = {"open", "connected", "reachable"};
  constexpr std::array<std::string_view, 5> kBad = {"failing", "closed", "disconnected", "lost",
                                                    "unreachable"};
  if (std::ranges::find(kWell, state) != kWell.end()) return Colour::Green;
  if (std::ranges::find(kBad, state) != kBad.end()) return Colour::Red;
  return state == "-" ? Colour::None : Colour::Yellow;
}

Colour colour_of_paths(std::string_view paths) {
  if (!paths.contains('U')) return paths.contains('_') ? Colour::Red : Colour::None;
  return paths.contains('_') ? Colour::Yellow : Colour::Green;
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
