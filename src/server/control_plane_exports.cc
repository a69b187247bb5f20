// SPDX-License-Identifier: Apache-2.0
// ControlPlane, third part: exports by name, and what is remembered of them. Changes are made one
// after the other, and each is on the disk before the next one begins: one that cannot be
// remembered is taken back.
#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/control/verbs.h"
#include "common/log.h"
#include "server/control_plane.h"
#include "server/export_state.h"

namespace rnbd::server {
namespace {

std::string_view origin_name(ExportOrigin origin) {
  switch (origin) {
    case ExportOrigin::Configured:
      return "config";
    case ExportOrigin::Added:
      return "added";
    case ExportOrigin::Temporary:
      return "temporary";
  }
  return "temporary";
}

control::ExportEntry entry_of(const NamedExports::Entry& one) {
  control::ExportEntry entry{.name = one.disk.name,
                             .path = one.disk.path,
                             .access = std::string(access_name(one.disk.read_only)),
                             .origin = std::string(origin_name(one.origin)),
                             .hidden = one.hidden};
  const auto disk = find_disk(one.disk.path);
  const auto size = disk ? size_of(*disk) : Result<std::uint64_t>(fail(disk.error()));
  if (size) {
    entry.size_bytes = *size;
  } else {
    entry.error = describe(size.error());
  }
  return entry;
}

std::string busy_text(std::string_view name, const std::vector<std::string>& sessions) {
  return fmt::format("{} is open: {}\n--force closes it for its clients", name,
                     fmt::join(sessions, ", "));
}

}  // namespace

void ControlPlane::remember_in(control::StateFile& state) {
  state_ = &state;
  std::vector<NamedExport> kept;
  const auto content =
      state.load([&kept](const control::Json& json) { kept = exports_of_state(json); });
  if (!content) return log::warn("no exports are remembered: {}", describe(content.error()));
  for (NamedExport& one : kept) {
    exports_.named().put_back({std::move(one), ExportOrigin::Added});
  }
}

void ControlPlane::save_exports(std::move_only_function<void(const Status&)> done) {
  if (state_ == nullptr) return done(fail(EOPNOTSUPP, "there is no state_dir to remember it in"));
  state_->save(state_of(exports_.named().added_for_good()), std::move(done));
}

std::vector<const Export*> ControlPlane::opened_as(std::string_view name) const {
  auto all = exports_.list();
  std::erase_if(all, [&](const Export* one) {
    const bool called = one->named && plain_name(one->mapping_path) == plain_name(name);
    return !called || one->state != ExportState::Open;
  });
  return all;
}

control::Json ControlPlane::list_named() {
  control::Json list = control::Json::array();
  for (const NamedExports::Entry& one : exports_.named().list()) {
    control::ExportEntry entry = entry_of(one);
    if (!one.hidden) {
      for (const Export* const open : opened_as(one.disk.name)) {
        entry.opened_by.push_back(open->session_name);
      }
    }
    list.push_back(control::to_json(entry));
  }
  return control::exports_result(std::move(list));
}

void ControlPlane::change_export(const control::Json& args, control::Reply reply) {
  auto wanted = control::read_export_args(args);
  if (!wanted) return reply(fail(wanted.error()));
  export_changes_.push_back({std::move(*wanted), std::move(reply)});
  if (export_changes_.size() == 1) begin_export_change();
}

void ControlPlane::begin_export_change() {
  const control::ExportArgs& wanted = export_changes_.front().wanted;
  if (wanted.action == "add") {
    add_export(wanted);
  } else {
    remove_export(wanted);
  }
}

/// The next one may begin. The answer is whom to tell.
control::Reply ControlPlane::end_export_change() {
  control::Reply reply = std::move(export_changes_.front().reply);
  export_changes_.pop_front();
  if (!export_changes_.empty()) {
    control_.post([this] { begin_export_change(); });
  }
  return reply;
}

Result<NamedExports::Entry> ControlPlane::export_to_add(const control::ExportArgs& wanted) {
  const auto read_only = parse_export_access(wanted.access);
  if (!read_only) return fail(read_only.error());
  for (const Status& good : {check_export_name(wanted.name), check_export_path(wanted.path)}) {
    if (!good) return fail(good.error());
  }
  // A disk that a configuration names may come later; what is typed now is meant now.
  const auto disk = find_disk(wanted.path);
  if (!disk) return fail(disk.error());
  for (const Status& possible :
       {exports_.named().check_free(wanted.name), exports_.may_mean(wanted.name, *disk)}) {
    if (!possible) return fail(possible.error());
  }
  return NamedExports::Entry{
      .disk = {.name = wanted.name, .path = wanted.path, .read_only = *read_only},
      .origin = wanted.temporary ? ExportOrigin::Temporary : ExportOrigin::Added};
}

void ControlPlane::add_export(const control::ExportArgs& wanted) {
  const auto entry = export_to_add(wanted);
  if (!entry) return end_export_change()(fail(entry.error()));
  if (Status added = exports_.named().add(entry->disk, entry->origin); !added) {
    return end_export_change()(fail(added.error()));
  }
  if (wanted.temporary) return tell_added(entry->disk);
  save_exports([this, disk = entry->disk](const Status& saved) {
    if (saved) return tell_added(disk);
    static_cast<void>(exports_.named().remove(disk.name));
    end_export_change()(fail(saved.error()));
  });
}

void ControlPlane::tell_added(const NamedExport& disk) {
  log::info("{} is exported as {}", disk.path, disk.name);
  end_export_change()(control::Json::object());
}

void ControlPlane::remove_export(const control::ExportArgs& wanted) {
  if (Status may = may_remove(wanted); !may) return end_export_change()(fail(may.error()));
  auto removed = exports_.named().remove(wanted.name);
  if (!removed) return end_export_change()(fail(removed.error()));
  if (removed->origin != ExportOrigin::Added) return close_removed(*removed);
  // First: it must not be back after a crash that comes while its disk is still busy.
  save_exports([this, entry = *removed](const Status& saved) {
    if (saved) return close_removed(entry);
    exports_.named().put_back(entry);
    end_export_change()(fail(saved.error()));
  });
}

Status ControlPlane::may_remove(const control::ExportArgs& wanted) {
  const NamedExports::Entry* const added = exports_.named().find_added(wanted.name);
  if (added == nullptr || added->hidden) return {};
  const auto sessions = exports_.relying_on(wanted.name);
  if (!wanted.force && !sessions.empty()) return fail(EBUSY, busy_text(wanted.name, sessions));
  return exports_.may_end(wanted.name);
}

void ControlPlane::close_removed(const NamedExports::Entry& entry) {
  log::info("{} is not exported any more as {}", entry.disk.path, entry.disk.name);
  control::Reply reply = end_export_change();
  // Those of the configuration's stay.
  const auto open = entry.hidden ? std::vector<const Export*>() : opened_as(entry.disk.name);
  force_close(open, [reply = std::move(reply)]() mutable { reply(control::Json::object()); });
}

}  // namespace rnbd::server
