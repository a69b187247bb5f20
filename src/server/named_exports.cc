// SPDX-License-Identifier: Apache-2.0
#include "server/named_exports.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <climits>
#include <fmt/format.h>

#include "common/rnbd_wire.h"
#include "common/words.h"

namespace rnbd::server {
namespace {

/// Without the slashes and dots that mean nothing in a path: "/img" and "./img" are "img".
std::string plain_name(std::string_view asked) {
  std::string name;
  for (std::size_t at = 0; at < asked.size();) {
    const std::size_t end = std::min(asked.find('/', at), asked.size());
    const std::string_view part = asked.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (!name.empty()) name += '/';
    name += part;
  }
  return name;
}

constexpr std::array<std::string_view, 2> kAccessNames = {"rw", "ro"};

bool is_control(char byte) { return static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f; }

}  // namespace

Status check_export_name(std::string_view name) {
  if (name.empty() || name.size() >= wire::kNameField) {
    return fail(EINVAL, fmt::format("name must have 1 to {} bytes", wire::kNameField - 1));
  }
  if (std::ranges::any_of(name, is_control)) {
    return fail(EINVAL, "name must not hold control characters");
  }
  return {};
}

Status check_export_path(std::string_view path) {
  const bool text = path.size() < PATH_MAX && path.find('\0') == std::string_view::npos;
  if (path.starts_with('/') && text) return {};
  return fail(EINVAL, fmt::format("path must begin with '/', not be '{}'", path));
}

Result<bool> parse_export_access(std::string_view access) {
  if (std::ranges::find(kAccessNames, access) == kAccessNames.end()) {
    return fail(EINVAL, fmt::format("access must be rw or ro, not '{}'{}", access,
                                    did_you_mean(access, kAccessNames)));
  }
  return access == access_name(true);
}

std::string_view access_name(bool read_only) { return kAccessNames[read_only ? 1 : 0]; }

void NamedExports::configure(const std::vector<NamedExport>& exports) {
  configured_.clear();
  for (const NamedExport& one : exports) {
    configured_.insert_or_assign(one.name, Entry{one, ExportOrigin::Configured});
  }
}

Status NamedExports::add(NamedExport disk, ExportOrigin origin) {
  if (const Entry* const known = find(disk.name)) {
    return fail(EEXIST, fmt::format("{} is exported already: {}", disk.name, known->disk.path));
  }
  std::string name = disk.name;
  added_.emplace(std::move(name), Entry{std::move(disk), origin});
  return {};
}

Status NamedExports::remove(std::string_view name) {
  if (configured_.contains(name)) {
    return fail(EPERM, fmt::format("{} is in the configuration\n"
                                   "take it out there, and then: rnbd-server reload",
                                   name));
  }
  const auto found = added_.find(name);
  if (found == added_.end()) return fail(ENOENT, fmt::format("there is no export {}", name));
  added_.erase(found);
  return {};
}

const NamedExports::Entry* NamedExports::find(std::string_view asked) const {
  const std::string name = plain_name(asked);
  for (const auto* const entries : {&configured_, &added_}) {
    if (const auto found = entries->find(name); found != entries->end()) return &found->second;
  }
  return nullptr;
}

std::vector<NamedExports::Entry> NamedExports::list() const {
  std::map<std::string_view, const Entry*> by_name;
  for (const auto* const entries : {&configured_, &added_}) {
    for (const auto& [name, entry] : *entries) by_name.emplace(name, &entry);
  }
  std::vector<Entry> all;
  all.reserve(by_name.size());
  for (const auto& [name, entry] : by_name) all.push_back(*entry);
  return all;
}

std::vector<NamedExport> NamedExports::added_for_good() const {
  std::vector<NamedExport> kept;
  for (const auto& [name, entry] : added_) {
    if (entry.origin == ExportOrigin::Added) kept.push_back(entry.disk);
  }
  return kept;
}

}  // namespace rnbd::server
