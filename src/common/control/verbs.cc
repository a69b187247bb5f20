// SPDX-License-Identifier: Apache-2.0
#include "common/control/verbs.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/control/read_members.h"

namespace rnbd::control {
namespace {

/// Empty if it is not there.
Result<std::string> read_optional(const Json& args, const char* name) {
  std::string text;
  if (!args.contains(name)) return text;
  if (Status read = read_text(args, name, text); !read) return fail(read.error());
  return text;
}

Json to_json(const LatencyHistogram& latency) {
  std::size_t used = latency.buckets.size();
  while (used > 0 && latency.buckets[used - 1] == 0) --used;
  Json buckets = Json::array();
  for (std::size_t i = 0; i < used; ++i) buckets.push_back(latency.buckets[i]);
  return {{"count", latency.count()}, {"sum_ns", latency.sum_ns}, {"buckets", std::move(buckets)}};
}

Json to_json(const std::vector<StageStats>& stages) {
  Json json = Json::object();
  for (const StageStats& one : stages) {
    json[one.stage] = {{"read", to_json(one.latencies.read)},
                       {"write", to_json(one.latencies.write)},
                       {"other", to_json(one.latencies.other)}};
  }
  return json;
}

}  // namespace

Json map_args(std::span<const std::string> words) {
  Json list = Json::array();
  for (const std::string& word : words) list.push_back(word);
  return {{"words", std::move(list)}};
}

Json to_json(const UnmapArgs& args) { return {{"device", args.device}, {"force", args.force}}; }

Json to_json(const DeviceStats& stats) {
  return {{"device", stats.device},
          {"session", stats.session},
          {"mapping_path", stats.mapping_path},
          {"reads", stats.reads},
          {"read_bytes", stats.read_bytes},
          {"writes", stats.writes},
          {"written_bytes", stats.written_bytes},
          {"flushes", stats.flushes},
          {"discards", stats.discards},
          {"write_zeroes", stats.write_zeroes},
          {"errors", stats.errors},
          {"in_flight", stats.in_flight},
          {"permit_waits", stats.permit_waits},
          {"read_latency", to_json(stats.latencies.read)},
          {"write_latency", to_json(stats.latencies.write)},
          {"other_latency", to_json(stats.latencies.other)},
          {"stages", to_json(stats.stages)}};
}

Json to_json(const SessionEntry& entry) {
  return {{"session", entry.session},
          {"client", entry.client},
          {"state", entry.state},
          {"devices", entry.devices},
          {"pinned_bytes", entry.pinned_bytes}};
}

Json to_json(const SessionArgs& args) {
  Json json = {{"action", args.action}, {"session", args.session}};
  if (!args.device.empty()) json["device"] = args.device;
  return json;
}

Json sessions_result(Json sessions) {
  return {{"schema_version", kSchemaVersion}, {"sessions", std::move(sessions)}};
}

Json resize_args(const std::string& device) { return {{"device", device}}; }

Json resize_result(const std::string& device, std::uint64_t size_bytes) {
  return {{"device", device}, {"size_bytes", size_bytes}};
}

Json revalidate_args(const std::string& device) {
  Json args = Json::object();
  if (!device.empty()) args["device"] = device;
  return args;
}

Json to_json(const ResizedEntry& entry) {
  return {{"device", entry.device},
          {"session", entry.session},
          {"was_bytes", entry.was_bytes},
          {"size_bytes", entry.size_bytes}};
}

Json to_json(const EventsSeen& seen) { return {{"daemon", seen.daemon}, {"after", seen.after}}; }

Json remap_args(const std::string& device) { return {{"device", device}}; }

Json to_json(const SetArgs& args) {
  Json json = map_args(args.words);
  json["session"] = args.session;
  if (args.temporary) json["temporary"] = true;
  return json;
}

Json to_json(const ServerEntry& entry) {
  Json json = {{"path", entry.path}, {"state", entry.state}};
  if (entry.last_error.empty()) {
    json["local_address"] = entry.local_address;
    json["queue_depth"] = entry.queue_depth;
    json["max_io_bytes"] = entry.max_io_bytes;
    json["answered_in_us"] = entry.answered_in_us;
  } else {
    json["last_error"] = entry.last_error;
  }
  return json;
}

Json servers_result(Json servers) {
  return {{"schema_version", kSchemaVersion}, {"servers", std::move(servers)}};
}

Json upgrade_args() { return {{"journals", kJournalVersion}}; }

Json map_result(const std::string& device) { return {{"device", device}}; }

Json to_json(const DeviceEntry& entry) {
  Json json = {{"device", entry.device},
               {"session", entry.session},
               {"mapping_path", entry.mapping_path},
               {"state", entry.state},
               {"access_mode", entry.access_mode},
               {"io_mode", entry.io_mode},
               {"size_bytes", entry.size_bytes}};
  if (!entry.client.empty()) json["client"] = entry.client;
  if (entry.state_seconds) {
    json["state_seconds"] = *entry.state_seconds;
    json["in_flight"] = entry.in_flight;
    json["server_size_bytes"] = entry.server_size_bytes;
    if (!entry.last_error.empty()) json["last_error"] = entry.last_error;
  }
  return json;
}

Json list_result(Json devices) {
  return {{"schema_version", kSchemaVersion}, {"devices", std::move(devices)}};
}

Json to_json(const PathArgs& args) {
  return {{"action", args.action},
          {"session", args.session},
          {"path", args.path},
          {"port", args.port},
          {"force", args.force}};
}

Json to_json(const PathEntry& entry) {
  Json json = {{"session", entry.session},
               {"path", entry.path},
               {"state", entry.state},
               {"state_seconds", entry.state_seconds},
               {"policy", entry.policy},
               {"local_address", entry.local_address},
               {"peer_address", entry.peer_address},
               {"latency_us", entry.latency_us},
               {"in_flight", entry.in_flight},
               {"failovers", entry.failovers},
               {"reconnects", entry.reconnects},
               {"failed_attempts", entry.failed_attempts}};
  if (!entry.last_error.empty()) json["last_error"] = entry.last_error;
  if (entry.since_reset) {
    json["since_reset"] = {{"seconds", entry.since_reset->seconds},
                           {"failovers", entry.since_reset->failovers},
                           {"reconnects", entry.since_reset->reconnects}};
  }
  return json;
}

Json paths_result(Json paths) {
  return {{"schema_version", kSchemaVersion}, {"paths", std::move(paths)}};
}

Result<std::vector<std::string>> read_map_args(const Json& args) {
  const auto words = args.find("words");
  if (words == args.end() || !words->is_array()) return fail(EINVAL, "an array 'words' is missing");
  std::vector<std::string> list;
  for (const Json& word : *words) {
    if (!word.is_string()) return fail(EINVAL, "the words are strings");
    list.push_back(word.get<std::string>());
  }
  return list;
}

Result<UnmapArgs> read_unmap_args(const Json& args) {
  UnmapArgs read;
  const auto device = args.find("device");
  if (device == args.end() || !device->is_string()) {
    return fail(EINVAL, "unmap needs a string 'device'");
  }
  read.device = device->get<std::string>();
  if (const auto force = args.find("force"); force != args.end()) {
    if (!force->is_boolean()) return fail(EINVAL, "'force' of unmap is true or false");
    read.force = force->get<bool>();
  }
  return read;
}

Result<PathArgs> read_path_args(const Json& args) {
  PathArgs read;
  for (const Status& status :
       {read_text(args, "action", read.action), read_text(args, "session", read.session),
        read_text(args, "path", read.path), read_flag(args, "force", read.force)}) {
    if (!status) return fail(status.error());
  }
  if (std::ranges::find(kPathActions, read.action) == kPathActions.end()) {
    return fail(EINVAL, "unknown action of path: " + read.action);
  }
  if (const auto port = args.find("port"); port != args.end()) {
    if (!port->is_number_unsigned() || port->get<std::uint64_t>() - 1 >= 65535) {
      return fail(EINVAL, "'port' of path is 1 to 65535");
    }
    read.port = port->get<std::uint16_t>();
  }
  return read;
}

Result<std::string> read_paths_args(const Json& args) { return read_optional(args, "session"); }

Result<std::string> read_revalidate_args(const Json& args) { return read_optional(args, "device"); }

Result<SessionArgs> read_session_args(const Json& args) {
  SessionArgs read;
  for (const Status& status :
       {read_text(args, "action", read.action), read_text(args, "session", read.session),
        read_optional_text(args, "device", read.device)}) {
    if (!status) return fail(status.error());
  }
  if (std::ranges::find(kSessionActions, read.action) == kSessionActions.end()) {
    return fail(EINVAL, "unknown action of session: " + read.action);
  }
  return read;
}

Result<std::string> read_resize_args(const Json& args) {
  std::string device;
  if (Status read = read_text(args, "device", device); !read) return fail(read.error());
  return device;
}

Result<EventsSeen> read_events_args(const Json& args) {
  EventsSeen seen;
  auto daemon = read_optional(args, "daemon");
  if (!daemon) return fail(daemon.error());
  seen.daemon = std::move(*daemon);
  if (const auto after = args.find("after"); after != args.end()) {
    if (!after->is_number_unsigned()) return fail(EINVAL, "'after' is the number of an event");
    seen.after = after->get<std::uint64_t>();
  }
  return seen;
}

Result<std::string> read_remap_args(const Json& args) { return read_resize_args(args); }

Result<SetArgs> read_set_args(const Json& args) {
  SetArgs read;
  if (Status session = read_text(args, "session", read.session); !session) {
    return fail(session.error());
  }
  auto words = read_map_args(args);
  if (!words) return fail(words.error());
  read.words = std::move(*words);
  if (Status flag = read_flag(args, "temporary", read.temporary); !flag) return fail(flag.error());
  return read;
}

Result<std::uint32_t> read_upgrade_args(const Json& args) {
  const auto journals = args.find("journals");
  if (journals == args.end() || !journals->is_number_unsigned()) {
    return fail(EINVAL, "upgrade needs a number 'journals'");
  }
  return journals->get<std::uint32_t>();
}

Result<std::string> read_map_result(const Json& result) {
  if (result.is_object()) {
    const auto device = result.find("device");
    if (device != result.end() && device->is_string()) return device->get<std::string>();
  }
  return fail(EPROTO, "the daemon mapped the device but does not say as which node");
}

Result<std::uint64_t> read_resize_result(const Json& result) {
  if (result.is_object()) {
    const auto size = result.find("size_bytes");
    if (size != result.end() && size->is_number_unsigned()) return size->get<std::uint64_t>();
  }
  return fail(EPROTO, "the daemon does not say how large the device is");
}

Status check_list_result(const Json& result) { return check_array(result, "devices"); }

Status check_paths_result(const Json& result) { return check_array(result, "paths"); }

Status check_sessions_result(const Json& result) { return check_array(result, "sessions"); }

Status check_servers_result(const Json& result) { return check_array(result, "servers"); }

Status check_events_result(const Json& result) {
  if (Status events = check_array(result, "events"); !events) return events;
  const auto daemon = result.find("daemon");
  const auto next = result.find("next");
  const auto snapshot = result.find("snapshot");
  const bool whole = daemon != result.end() && daemon->is_string() && next != result.end() &&
                     next->is_number_unsigned() &&
                     (snapshot == result.end() || snapshot->is_object());
  if (whole) return {};
  return fail(EPROTO, "the daemon does not say which events these are");
}

}  // namespace rnbd::control
