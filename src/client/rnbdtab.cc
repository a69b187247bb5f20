// SPDX-License-Identifier: Apache-2.0
#include "client/rnbdtab.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstddef>

#include <fmt/format.h>

#include "client/map_words.h"
#include "common/words.h"

namespace rnbd::client {
namespace {

constexpr std::size_t kLongestName = 64;  // it becomes part of a unit's name
constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kServer = "SERVER (ip:ADDR, gid:GID or a session's name)";
constexpr std::array<std::string_view, 4> kColumns = {"NAME", kServer, "DEVICE_PATH", "OPTIONS"};
constexpr std::array<std::string_view, 4> kFlags = {"noauto", "nofail", "_netdev", "defaults"};

struct Field {
  std::size_t column = 0;  ///< from 1
  std::string text;
};

std::unexpected<Error> wrong_at(unsigned line, std::size_t column, std::string_view why) {
  return fail(EINVAL, fmt::format("{}:{}: {}", line, column, why));
}

/// Octal, as fstab's.
std::string without_escapes(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view digits = text.substr(i + 1, 3);
    if (text[i] == '\\' && digits.size() == 3 && digits[0] < '4' &&
        std::ranges::all_of(digits, octal)) {
      out += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<Field> fields_of(std::string_view line) {
  std::vector<Field> fields;
  for (std::size_t at = line.find_first_not_of(kBlanks); at != std::string_view::npos;) {
    if (line[at] == '#') break;
    const std::size_t end = std::min(line.find_first_of(kBlanks, at), line.size());
    fields.push_back({at + 1, std::string(line.substr(at, end - at))});
    at = line.find_first_not_of(kBlanks, end);
  }
  return fields;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kLongestName && text[0] != '.' && text[0] != '-' &&
         std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '.' || c == ':' || c == '-';
         });
}

Status read_option(std::string_view option, TabEntry& entry) {
  if (option == "noauto") {
    entry.automatic = false;
  } else if (option == "nofail") {
    entry.needed = false;
  } else if (!option.contains('=') && std::ranges::find(kFlags, option) == kFlags.end()) {
    return fail(EINVAL, fmt::format("unknown option '{}'{}", option, did_you_mean(option, kFlags)));
  } else if (option.contains('=')) {
    entry.words.push_back(without_escapes(option));
  }
  return {};
}

Status read_options(unsigned line, const Field& field, TabEntry& entry) {
  const std::string_view text = field.text;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    if (Status read = read_option(text.substr(at, end - at), entry); !read) {
      return wrong_at(line, field.column + at, read.error().message);
    }
    at = end + 1;
  }
  return {};
}

Result<TabEntry> read_line(unsigned line, const std::vector<Field>& fields,
                           std::string_view hostname) {
  if (fields.size() < kColumns.size() - 1 || fields.size() > kColumns.size()) {
    const bool more = fields.size() > kColumns.size();
    const std::size_t column = more ? fields[kColumns.size()].column : fields.back().column;
    return wrong_at(
        line, column,
        more ? "a fifth column"
             : fmt::format("column {} is missing: {}", fields.size() + 1, kColumns[fields.size()]));
  }
  TabEntry entry{.line = line,
                 .name = fields[0].text,
                 .words = {},
                 .session_name = {},
                 .device_path = {},
                 .paths = {}};
  if (!is_name(entry.name)) {
    return wrong_at(line, fields[0].column,
                    fmt::format("'{}' is no name: up to {} letters, digits, _ . : -", entry.name,
                                kLongestName));
  }
  const std::string server = without_escapes(fields[1].text);
  const bool address = server.starts_with("ip:") || server.starts_with("gid:");
  entry.words.push_back((address ? "server=" : "sessname=") + server);
  entry.words.push_back("device_path=" + without_escapes(fields[2].text));
  if (fields.size() == kColumns.size()) {
    if (Status read = read_options(line, fields[3], entry); !read) return fail(read.error());
  }
  auto request = parse_map_words(entry.words, hostname);
  if (!request) return wrong_at(line, fields[1].column, request.error().message);
  entry.session_name = std::move(request->session_name);
  entry.device_path = std::move(request->device_path);
  for (const PathSpec& path : request->paths) {
    entry.paths.push_back(path.source.empty() ? path.destination
                                              : path.source + "@" + path.destination);
  }
  entry.port = request->port;
  return entry;
}

}  // namespace

Result<std::vector<TabEntry>> parse_rnbdtab(std::string_view text, std::string_view hostname) {
  std::vector<TabEntry> entries;
  unsigned number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::vector<Field> fields = fields_of(text.substr(at, end - at));
    at = end + 1;
    ++number;
    if (fields.empty()) continue;
    auto entry = read_line(number, fields, hostname);
    if (!entry) return fail(entry.error());
    for (const TabEntry& other : entries) {
      if (other.name == entry->name) {
        return wrong_at(number, fields[0].column,
                        fmt::format("'{}' is in line {} already", other.name, other.line));
      }
      if (other.session_name == entry->session_name && other.device_path == entry->device_path) {
        return wrong_at(
            number, fields[2].column,
            fmt::format("line {} maps the same device of the same session", other.line));
      }
    }
    entries.push_back(std::move(*entry));
  }
  return entries;
}

}  // namespace rnbd::client
