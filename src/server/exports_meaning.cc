// SPDX-License-Identifier: Apache-2.0
// Exports, second part: what names mean may change while disks are in use, but not for those who
// use them. A client asks by name when it comes back, and a kernel's goes on with whatever disk it
// gets.
#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "server/disk_mark.h"
#include "server/exports.h"

namespace rnbd::server {
namespace {

LostDevices::Device device_of(const Export& entry) {
  return {.session = entry.session_name,
          .name = entry.mapping_path,
          .disk = entry.identity,
          .mark = entry.mark,
          .path = entry.device_path};
}

bool same_path(const NamedExports::Entry* one, const NamedExports::Entry* other) {
  return one != nullptr && other != nullptr && one->disk.path == other->disk.path;
}

/// The number of a device that nobody has open is soon another disk's.
bool is_same(const LostDevices::Device& device, const FoundDisk& found) {
  if (!(found.identity() == device.disk)) return false;
  const std::uint64_t mark = disk_mark(found);
  return mark == 0 || device.mark == 0 || mark == device.mark;
}

std::string stays(const LostDevices::Device& device, std::string_view instead) {
  return fmt::format("{} stays {}, and is not {}: {} has it open", device.name, device.path,
                     instead, device.session);
}

}  // namespace

void Exports::lose(const Export& entry) { lost_.add(device_of(entry), now_()); }

std::vector<LostDevices::Device> Exports::relied_on() const {
  auto devices = lost();
  for (const auto& [key, entry] : exports_) {
    if (entry.state != ExportState::Closing) devices.push_back(device_of(entry));
  }
  return devices;
}

std::vector<std::string> Exports::relying_on(std::string_view name) const {
  std::vector<std::string> sessions;
  for (LostDevices::Device& one : relied_on()) {
    if (plain_name(one.name) != plain_name(name)) continue;
    if (std::ranges::find(sessions, one.session) != sessions.end()) continue;
    sessions.push_back(std::move(one.session));
  }
  return sessions;
}

Status Exports::may_mean(std::string_view name, const FoundDisk& disk) const {
  for (const LostDevices::Device& one : relied_on()) {
    if (plain_name(one.name) != plain_name(name) || is_same(one, disk)) continue;
    return fail(EBUSY, fmt::format("{} is open, as another disk: {} has {}\n"
                                   "unmap it there, or take another name",
                                   name, one.session, one.path));
  }
  return {};
}

Status Exports::may_end(std::string_view name) const {
  for (const LostDevices::Device& one : relied_on()) {
    if (plain_name(one.name) != plain_name(name)) continue;
    const auto below = search_path_.find(one.session, one.name);
    if (!below || is_same(one, *below)) continue;
    return fail(EBUSY, fmt::format("{} would be {} without it, and {} has {} open\n"
                                   "unmap it there first",
                                   name, below->path(), one.session, one.path));
  }
  return {};
}

Exports::Refused Exports::adopt(Meaning& meaning) {
  Refused refused;
  refused.search_path = misleading_search_path(meaning);
  if (!refused.search_path.empty()) meaning.search_path = search_path_;
  NamedExports wanted = named_;
  wanted.configure(meaning.configured);
  for (const LostDevices::Device& one : relied_on()) {
    std::string why = misleading_name(one, wanted, meaning.search_path);
    if (why.empty()) continue;
    refused.exports.push_back(std::move(why));
    std::erase_if(meaning.configured, [&](const NamedExport& each) {
      return plain_name(each.name) == plain_name(one.name);
    });
    const NamedExports::Entry* const was = named_.find(one.name);
    const bool configured = was != nullptr && was->origin == ExportOrigin::Configured;
    if (configured) meaning.configured.push_back(was->disk);
    wanted.configure(meaning.configured);
  }
  search_path_ = meaning.search_path;
  named_.configure(meaning.configured);
  return refused;
}

/// Why not, or nothing.
std::string Exports::misleading_search_path(const Meaning& wanted) const {
  if (wanted.search_path.text() == search_path_.text()) return {};
  NamedExports names = named_;
  names.configure(wanted.configured);
  for (const LostDevices::Device& one : relied_on()) {
    // A name that is going to be one, or to be none, may be left as it is by what follows.
    if (named_.find(one.name) != nullptr && names.find(one.name) != nullptr) continue;
    const auto now = search_path_.find(one.session, one.name);
    const auto then = wanted.search_path.find(one.session, one.name);
    if (!then || is_same(one, *then)) continue;
    if (now && now->identity() == then->identity()) continue;
    return stays(one, then->path());
  }
  return {};
}

/// Why the name of that device must stay what it is; nothing if it need not.
std::string Exports::misleading_name(const LostDevices::Device& device, const NamedExports& wanted,
                                     const SearchPath& search_path) const {
  const NamedExports::Entry* const was = named_.find(device.name);
  const NamedExports::Entry* const will = wanted.find(device.name);
  if ((was == nullptr && will == nullptr) || same_path(was, will)) return {};
  const auto disk =
      will == nullptr ? search_path.find(device.session, device.name) : find_disk(will->disk.path);
  if (disk) {
    return is_same(device, *disk) ? std::string() : stays(device, disk->path());
  }
  // A disk that is named and not there may come later.
  return will == nullptr ? std::string() : stays(device, will->disk.path);
}

}  // namespace rnbd::server
