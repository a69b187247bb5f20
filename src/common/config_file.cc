// SPDX-License-Identifier: Apache-2.0
#include "common/config_file.h"

#include <cerrno>
#include <filesystem>
#include <toml++/toml.h>

#include "common/text_file.h"

namespace rnbd {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".toml";

std::string_view type_name(const toml::node& value) {
  switch (value.type()) {
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
    case toml::node_type::none:  // which no node of a parsed file is
      break;
  }
  return "a date or time";
}

std::string place_of(const std::string& file, const toml::source_position& where) {
  return fmt::format("{}:{}:{}", file, where.line, where.column);
}

ConfigTable items_of(const std::string& file, const toml::table& table) {
  ConfigTable items;
  for (const auto& [name, node] : table) {
    ConfigItem& item = items.emplace_back();
    item.key = name.str();
    item.key_place = place_of(file, name.source().begin);
    item.place = place_of(file, node.source().begin);
    item.value = type_name(node);
    if (const auto* text = node.as_string()) item.value = text->get();
    if (const auto* number = node.as_integer()) item.value = number->get();
    if (const auto* truth = node.as_boolean()) item.value = truth->get();
    const auto* const array = node.as_array();
    if (array == nullptr || (!array->empty() && !array->is_array_of_tables())) continue;
    std::vector<ConfigTable> tables;
    for (const toml::node& one : *array) tables.push_back(items_of(file, *one.as_table()));
    item.value = std::move(tables);
  }
  return items;
}

std::string_view kind_of(const ConfigItem& item) {
  if (const auto* other = std::get_if<std::string_view>(&item.value)) return *other;
  if (std::holds_alternative<std::string>(item.value)) return "a string";
  if (std::holds_alternative<std::int64_t>(item.value)) return "a whole number";
  return std::holds_alternative<bool>(item.value) ? "true or false" : "an array";
}

template <typename T>
Result<T> value_of(const ConfigItem& item, std::string_view wanted) {
  if (const auto* value = std::get_if<T>(&item.value)) return *value;
  return wrong_at(item.place,
                  fmt::format("{} must be {}, not {}", item.key, wanted, kind_of(item)));
}

}  // namespace

std::unexpected<Error> wrong_at(std::string_view place, std::string_view why) {
  return fail(EINVAL, fmt::format("{}: {}", place, why));
}

Result<std::string> text_of(const ConfigItem& item) {
  return value_of<std::string>(item, "a string");
}

Result<std::int64_t> number_of(const ConfigItem& item) {
  return value_of<std::int64_t>(item, "a whole number");
}

Result<bool> truth_of(const ConfigItem& item) { return value_of<bool>(item, "true or false"); }

Result<std::vector<ConfigTable>> tables_of(const ConfigItem& item) {
  return value_of<std::vector<ConfigTable>>(item, fmt::format("tables, [[{}]]", item.key));
}

Status set_text(const ConfigItem& item, Status (*check)(std::string_view), std::string& field) {
  auto value = text_of(item);
  if (!value) return fail(value.error());
  if (Status good = check(*value); !good) return wrong_at(item.place, good.error().message);
  field = std::move(*value);
  return {};
}

Result<std::vector<std::string>> config_files(const std::string& file) {
  std::vector<std::string> files = {file};
  const fs::path directory = file + ".d";
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(kSuffix) && !name.starts_with('.')) files.push_back(entry->path().string());
  }
  if (error && error.value() != ENOENT) {
    return fail(error.value(), fmt::format("cannot read {}", directory.string()));
  }
  std::sort(files.begin() + 1, files.end());
  return files;
}

Result<ConfigTable> read_config(const std::string& file) {
  const auto text = read_text_file(file);
  if (!text) return fail(text.error());
  try {
    return items_of(file, toml::parse(*text));
  } catch (const toml::parse_error& error) {
    return wrong_at(place_of(file, error.source().begin), error.description());
  }
}

}  // namespace rnbd
