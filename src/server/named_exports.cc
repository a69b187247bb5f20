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

constexpr std::array<std::string_view, 2> kAccessNames = {"rw", "ro"};

bool is_control(char byte) { return static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f; }

}  // namespace

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

Status check_export_name(std::string_view name) {
  if (name.empty() || name.size() >= wire::kNameField) {
    return fail(EINVAL, fmt::format("name must have 1 to {} bytes", wire::kNameField - 1));
  }
  if (std::ranges::any_of(name, is_control)) {
    return fail(EINVAL, "name must not hold control characters");
  }
  if (plain_name(name).empty()) {
    return fail(EINVAL, fmt::format("name must be more than slashes and dots, not '{}'", name));
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
    configured_.insert_or_assign(plain_name(one.name), Entry{one, ExportOrigin::Configured});
  }
  mark_hidden();
}

void NamedExports::mark_hidden() {
  for (auto& [name, entry] : added_) entry.hidden = configured_.contains(name);
}

Status NamedExports::check_free(std::string_view name) const {
  const Entry* const known = find(name);
  if (known == nullptr) return {};
  return fail(EEXIST, fmt::format("{} is exported already: {}", name, known->disk.path));
}

Status NamedExports::add(NamedExport disk, ExportOrigin origin) {
  if (Status free = check_free(disk.name); !free) return free;
  put_back({std::move(disk), origin});
  return {};
}

void NamedExports::put_back(Entry entry) {
  std::string name = plain_name(entry.disk.name);
  added_.emplace(std::move(name), std::move(entry));
  mark_hidden();
}

Result<NamedExports::Entry> NamedExports::remove(std::string_view asked) {
  const std::string name = plain_name(asked);
  if (auto added = added_.extract(name)) return std::move(added.mapped());
  if (configured_.contains(name)) {
    return fail(EPERM, fmt::format("{} is in the configuration\n"
                                   "take it out there, and then: rnbd-server reload",
                                   asked));
  }
  return fail(ENOENT, fmt::format("there is no export {}", asked));
}

const NamedExports::Entry* NamedExports::find(std::string_view asked) const {
  const auto found = configured_.find(plain_name(asked));
  return found == configured_.end() ? find_added(asked) : &found->second;
}

const NamedExports::Entry* NamedExports::find_added(std::string_view asked) const {
  const auto found = added_.find(plain_name(asked));
  return found == added_.end() ? nullptr : &found->second;
}

std::vector<NamedExports::Entry> NamedExports::list() const {
  std::multimap<std::string_view, const Entry*> by_name;
  for (const Entries* const entries : {&configured_, &added_}) {
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
