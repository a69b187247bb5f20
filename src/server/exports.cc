// SPDX-License-Identifier: Apache-2.0
#include "server/exports.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "common/assert.h"
#include "common/limits.h"
#include "common/log.h"
#include "server/disk_mark.h"

namespace rnbd::server {
namespace {

Result<wire::AccessMode> parse_access(std::uint8_t access) {
  if (access > std::to_underlying(wire::AccessMode::Migration)) {
    return fail(EINVAL, fmt::format("unknown access mode {}", access));
  }
  return wire::AccessMode{access};
}

Result<wire::IoMode> parse_io_mode(std::uint8_t io_mode) {
  if (io_mode > std::to_underlying(wire::IoMode::FileIo)) {
    return fail(EINVAL, fmt::format("unknown io mode {}", io_mode));
  }
  return wire::IoMode{io_mode};
}

/// How many writers there may be before one more of this kind comes.
unsigned writers_tolerated(wire::AccessMode access) {
  switch (access) {
    case wire::AccessMode::ReadOnly:
      return std::numeric_limits<unsigned>::max();
    case wire::AccessMode::ReadWrite:
      return 0;
    case wire::AccessMode::Migration:
      return 1;
  }
  return 0;
}

}  // namespace

Result<Export*> Exports::open(const Session& session, std::string_view name, std::uint8_t access,
                              std::uint8_t io_mode) {
  if (Export* known = find_open(session.id, name); known != nullptr) return known;
  auto opened = open_new(session, name, access, io_mode);
  if (opened) {
    lost_.forget(session.name, name);
  } else {
    lost_.renew(session.name, name, now_());
  }
  return opened;
}

Result<Export*> Exports::open_new(const Session& session, std::string_view name,
                                  std::uint8_t wanted_access, std::uint8_t wanted_io_mode) {
  if (!drain_.may_open(session.name, name)) return being_drained();
  const auto access = parse_access(wanted_access);
  if (!access) return fail(access.error());
  const auto io_mode = parse_io_mode(wanted_io_mode);
  if (!io_mode) return fail(io_mode.error());
  const auto id = free_id(session.id);
  if (!id) return fail(id.error());

  const auto disk = find_named_or_below(session, name, *access);
  if (!disk) return fail(disk.error());
  if (Status status = admit(*disk, *access); !status) return fail(status.error());
  auto backend = Backend::open(*disk, *access != wire::AccessMode::ReadOnly, *io_mode);
  if (!backend) {
    dismiss(disk->identity(), *access);
    return fail(backend.error());
  }

  Export entry{.session = session.id,
               .session_name = std::string(session.name),
               .mapping_path = std::string(name),
               .device_path = disk->path(),
               .device_id = *id,
               .identity = disk->identity(),
               .mark = disk_mark(*disk),
               .access = *access,
               .io_mode = backend->io_mode(),
               .size_bytes = backend->size_bytes(),
               .since = std::chrono::system_clock::now(),
               .state = ExportState::Open,
               .named = named_.find(name) != nullptr,
               .backend = std::move(*backend)};
  Export& made = exports_.emplace(Key{session.id, *id}, std::move(entry)).first->second;
  last_ids_[session.id] = *id;
  on_change_(made, ExportState::Open);
  return &made;
}

Result<FoundDisk> Exports::find_named_or_below(const Session& session, std::string_view name,
                                               wire::AccessMode access) const {
  const NamedExports::Entry* const named = named_.find(name);
  if (named == nullptr) return search_path_.find(session.name, name);
  if (named->disk.read_only && access != wire::AccessMode::ReadOnly) {
    return fail(EROFS, fmt::format("{} is exported read-only", name));
  }
  return find_disk(named->disk.path);
}

Export* Exports::find(std::uint64_t session, std::uint32_t device_id) {
  const auto found = exports_.find({session, device_id});
  return found == exports_.end() ? nullptr : &found->second;
}

Export* Exports::find_open(std::uint64_t session, std::string_view name) {
  for (auto entry = exports_.lower_bound({session, 0});
       entry != exports_.end() && entry->first.session == session; ++entry) {
    Export& found = entry->second;
    if (found.state == ExportState::Open && found.mapping_path == name) return &found;
  }
  return nullptr;
}

Result<std::uint32_t> Exports::free_id(std::uint64_t session) const {
  const auto last = last_ids_.find(session);
  const std::uint32_t first = last == last_ids_.end() ? 0 : last->second + 1;
  for (std::uint32_t i = 0; i < limits::kMaxDevicesPerSession; ++i) {
    const std::uint32_t id = (first + i) % limits::kMaxDevicesPerSession;
    if (!exports_.contains({session, id})) return id;
  }
  return fail(ENOSPC,
              fmt::format("the session has {} devices open", limits::kMaxDevicesPerSession));
}

/// Gives a writer its place, or says why there is none.
Status Exports::admit(const FoundDisk& disk, wire::AccessMode access) {
  if (access == wire::AccessMode::ReadOnly) return {};
  const auto found = writers_.find(disk.identity());
  if (found == writers_.end()) {
    auto claim = claim_for_writing(disk);
    if (!claim) return fail(claim.error());
    writers_.emplace(disk.identity(), Writers{1, std::move(*claim)});
    return {};
  }
  Writers& writers = found->second;
  if (writers.count > writers_tolerated(access)) {
    return fail(EPERM, fmt::format("{} already has {}", disk.path(),
                                   writers.count == 1 ? "a writer" : "two writers"));
  }
  ++writers.count;
  return {};
}

void Exports::dismiss(const DiskIdentity& disk, wire::AccessMode access) {
  if (access == wire::AccessMode::ReadOnly) return;
  const auto found = writers_.find(disk);
  RNBD_ASSERT(found != writers_.end());
  if (--found->second.count == 0) writers_.erase(found);
}

void Exports::drop_disk(Export& entry) {
  if (!entry.backend) return;
  entry.backend.reset();
  dismiss(entry.identity, entry.access);
  on_change_(entry, ExportState::Closed);
}

void Exports::begin_close(std::uint64_t session, std::uint32_t device_id) {
  Export* entry = find(session, device_id);
  if (entry != nullptr && entry->state == ExportState::Open) entry->state = ExportState::Closing;
}

void Exports::close(std::uint64_t session, std::uint32_t device_id) {
  Export* entry = find(session, device_id);
  if (entry == nullptr) return;
  // One that was closed by force is wanted still, for all that is known here.
  if (entry->state == ExportState::Closed) lose(*entry);
  drop_disk(*entry);
  exports_.erase({session, device_id});
}

void Exports::force_close(std::uint64_t session, std::uint32_t device_id) {
  Export* entry = find(session, device_id);
  if (entry == nullptr) return;
  drop_disk(*entry);
  entry->state = ExportState::Closed;
}

Result<std::vector<Exports::Resized>> Exports::revalidate(std::string_view device_path) {
  std::vector<Resized> resized;
  bool found = device_path.empty();
  for (auto& [key, entry] : exports_) {
    if (!device_path.empty() && entry.device_path != device_path) continue;
    if (entry.state != ExportState::Open) continue;
    found = true;
    const auto changed = entry.backend->refresh_size();
    if (!changed) {
      log::debug("{}: {}", entry.device_path, describe(changed.error()));
    } else if (*changed) {
      resized.push_back({&entry, std::exchange(entry.size_bytes, entry.backend->size_bytes())});
    }
  }
  if (!found) return fail(ENOENT, fmt::format("no client has {} open", device_path));
  return resized;
}

void Exports::close_session(std::uint64_t session) {
  const auto first = exports_.lower_bound({session, 0});
  const auto last = exports_.lower_bound({session, limits::kMaxDevicesPerSession});
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second.state != ExportState::Closing) lose(entry->second);
    drop_disk(entry->second);
  }
  exports_.erase(first, last);
  last_ids_.erase(session);
}

std::vector<const Export*> Exports::list() const {
  std::vector<const Export*> all;
  all.reserve(exports_.size());
  for (const auto& [key, entry] : exports_) all.push_back(&entry);
  return all;
}

}  // namespace rnbd::server
