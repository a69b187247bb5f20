// SPDX-License-Identifier: Apache-2.0
#include "common/control/admin_verbs.h"

#include <utility>

#include "common/control/read_members.h"
#include "common/control/verbs.h"

namespace rnbd::control {
namespace {

/// Null unless it is an array of strings.
const Json* texts(const Json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  if (found == object.end() || !found->is_array()) return nullptr;
  const bool all = std::ranges::all_of(*found, [](const Json& one) { return one.is_string(); });
  return all ? &*found : nullptr;
}

Result<std::uint64_t> read_count(const Json& result, const char* name) {
  const auto found = result.is_object() ? result.find(name) : result.end();
  if (found == result.end() || !found->is_number_unsigned()) {
    return fail(EPROTO, std::string("the daemon does not say how many ") + name);
  }
  return found->get<std::uint64_t>();
}

}  // namespace

Json to_json(const ReloadResult& result) {
  Json refused = Json::array();
  for (const auto& [key, why] : result.refused) {
    refused.push_back({{"key", key}, {"reason", why}});
  }
  return {{"schema_version", kSchemaVersion},
          {"changed", result.changed},
          {"needs_restart", result.needs_restart},
          {"refused", std::move(refused)}};
}

Json to_json(const ExportArgs& args) {
  Json json = {{"action", args.action}, {"name", args.name}};
  if (args.action == "add") {
    json["path"] = args.path;
    json["access"] = args.access;
    json["temporary"] = args.temporary;
  } else {
    json["force"] = args.force;
  }
  return json;
}

Json to_json(const ExportEntry& entry) {
  Json json = {{"name", entry.name},
               {"path", entry.path},
               {"access", entry.access},
               {"origin", entry.origin}};
  if (entry.hidden) json["hidden"] = true;
  if (entry.size_bytes) json["size_bytes"] = *entry.size_bytes;
  if (!entry.error.empty()) json["error"] = entry.error;
  json["opened_by"] = entry.opened_by;
  return json;
}

Json exports_result(Json exports) {
  return {{"schema_version", kSchemaVersion}, {"exports", std::move(exports)}};
}

Json to_json(const DrainArgs& args) {
  Json json = {{"off", args.off}};
  if (args.look) json["look"] = true;
  if (!args.session.empty()) json["session"] = args.session;
  return json;
}

Json to_json(const DrainResult& result) {
  return {{"schema_version", kSchemaVersion},
          {"devices", result.devices},
          {"returning", result.returning}};
}

Result<ExportArgs> read_export_args(const Json& args) {
  ExportArgs read;
  for (const Status& status :
       {read_text(args, "action", read.action), read_text(args, "name", read.name),
        read_optional_text(args, "path", read.path),
        read_optional_text(args, "access", read.access),
        read_flag(args, "temporary", read.temporary), read_flag(args, "force", read.force)}) {
    if (!status) return fail(status.error());
  }
  if (std::ranges::find(kExportActions, read.action) == kExportActions.end()) {
    return fail(EINVAL, "unknown action of export: " + read.action);
  }
  return read;
}

Result<DrainArgs> read_drain_args(const Json& args) {
  DrainArgs read;
  for (const Status& status :
       {read_optional_text(args, "session", read.session), read_flag(args, "off", read.off),
        read_flag(args, "look", read.look)}) {
    if (!status) return fail(status.error());
  }
  return read;
}

Result<ReloadResult> read_reload_result(const Json& result) {
  const Json* const changed = texts(result, "changed");
  const Json* const needs_restart = texts(result, "needs_restart");
  if (changed == nullptr || needs_restart == nullptr) {
    return fail(EPROTO, "the daemon does not say what it has reloaded");
  }
  ReloadResult read{.changed = changed->get<std::vector<std::string>>(),
                    .needs_restart = needs_restart->get<std::vector<std::string>>(),
                    .refused = {}};
  if (!result.contains("refused")) return read;
  if (Status list = check_array(result, "refused"); !list) return fail(list.error());
  for (const Json& one : result.at("refused")) {
    ReloadResult::Refused& refused = read.refused.emplace_back();
    for (const Status& text :
         {read_text(one, "key", refused.key), read_text(one, "reason", refused.why)}) {
      if (!text) return fail(EPROTO, text.error().message);
    }
  }
  return read;
}

Status check_reload_result(const Json& result) {
  const auto read = read_reload_result(result);
  return read ? Status{} : fail(read.error());
}

Result<DrainResult> read_drain_result(const Json& result) {
  const auto devices = read_count(result, "devices");
  if (!devices) return fail(devices.error());
  const auto returning = read_count(result, "returning");
  if (!returning) return fail(returning.error());
  return DrainResult{*devices, *returning};
}

Status check_exports_result(const Json& result) { return check_array(result, "exports"); }

}  // namespace rnbd::control
