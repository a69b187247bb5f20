// SPDX-License-Identifier: Apache-2.0
// Tables for people: aligned columns, two blanks between them. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rnbd::cli {

enum class Align { Left, Right };

struct Column {
  std::string title;
  Align align = Align::Left;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as there are columns. An empty cell shows as "-", so that each line has the same
  /// number of fields; control characters show as \xHH, so that no name can drive a terminal.
  void add_row(std::vector<std::string> cells);

  /// Every line ends with a newline and has no trailing blanks.
  [[nodiscard]] std::string render(bool headers) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// A size for people, in powers of 1024: "512B", "1.5K", "10G", "2T".
std::string human_size(std::uint64_t bytes);

/// How long something has been: "59s", "59m", "47h", "2d"; rounded down.
std::string human_age(std::uint64_t seconds);

}  // namespace rnbd::cli
