// SPDX-License-Identifier: Apache-2.0
// Tables for people: aligned columns, two blanks between them. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace rnbd::cli {

enum class Align { Left, Right };
enum class Colour { None, Green, Yellow, Red };

struct Column {
  std::string title;
  Align align = Align::Left;
  bool usual = true;  ///< shown unless others are asked for
  Colour (*colour)(std::string_view cell) = nullptr;
};

/// How a table is wanted.
struct TableStyle {
  bool headers = true;
  /// Columns by their titles, small letters, underlines for blanks: "device,size", or what is to be
  /// added to the usual ones and taken away: "+last_error,-io". Empty: the usual ones.
  std::string columns;
  bool colours = false;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as there are columns. An empty cell shows as "-", so that each line has the same
  /// number of fields; control characters show as \xHH, so that no name can drive a terminal.
  void add_row(std::vector<std::string> cells);

  /// Every line ends with a newline and has no trailing blanks. EINVAL: a column that there is not.
  [[nodiscard]] Result<std::string> render(const TableStyle& style) const;

 private:
  [[nodiscard]] Result<std::vector<std::size_t>> chosen(const std::string& columns) const;
  [[nodiscard]] std::string line(const std::vector<std::string>& cells,
                                 const std::vector<std::size_t>& columns,
                                 const std::vector<std::size_t>& widths, bool colours) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Of a device's or a path's state.
Colour colour_of_state(std::string_view state);
/// Of "UU_".
Colour colour_of_paths(std::string_view paths);

/// A size for people, in powers of 1024: "512B", "1.5K", "10G", "2T".
std::string human_size(std::uint64_t bytes);

/// How long something has been: "59s", "59m", "47h", "2d"; rounded down.
std::string human_age(std::uint64_t seconds);

}  // namespace rnbd::cli
