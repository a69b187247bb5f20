// SPDX-License-Identifier: Apache-2.0
#include "cli/views.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "cli/fields.h"
#include "cli/table.h"
#include "common/control/verbs.h"
#include "common/printable.h"

namespace rnbd::cli {
namespace {

using control::Json;

std::vector<std::string> session_names(const Json& list, const Json& paths) {
  std::vector<std::string> names;
  for (const Json* const entries : {&paths.at("paths"), &list.at("devices")}) {
    for (const Json& entry : *entries) {
      const std::string name = text_of(entry, "session");
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

std::vector<const Json*> of_session(const Json& entries, const std::string& session) {
  std::vector<const Json*> found;
  for (const Json& entry : entries) {
    if (text_of(entry, "session") == session) found.push_back(&entry);
  }
  return found;
}

/// " (why)", or nothing.
std::string reason(const Json& entry) {
  const std::string error = text_of(entry, "last_error");
  return error.empty() ? error : fmt::format(" ({})", error);
}

std::string path_line(const Json& path) {
  const bool up = text_of(path, "state") == "connected";
  std::string line = fmt::format("path {}  {} {}", text_of(path, "path"), text_of(path, "state"),
                                 human_age(number_of(path, "state_seconds")));
  if (!up) return printable(line + reason(path));
  if (const std::uint64_t us = number_of(path, "latency_us"); us > 0) {
    line += fmt::format("  latency {}us", us);
  }
  return printable(line + fmt::format("  in flight {}", number_of(path, "in_flight")));
}

std::string device_line(const Json& device) {
  const std::string state = text_of(device, "state");
  std::string line = fmt::format(
      "{}  {}  {} {}  {}", text_of(device, "device"), text_of(device, "mapping_path"),
      human_size(number_of(device, "size_bytes")), text_of(device, "access_mode"), state);
  if (state == "open") return printable(line);
  return printable(fmt::format("{} {}, {} waiting{}", line,
                               human_age(number_of(device, "state_seconds")),
                               number_of(device, "in_flight"), reason(device)));
}

/// Those objects of an array; nothing if it is none.
Json members(const Json& object, const char* name) {
  Json found = Json::array();
  const auto array = object.find(name);
  if (array == object.end() || !array->is_array()) return found;
  for (const Json& one : *array) {
    if (one.is_object()) found.push_back(one);
  }
  return found;
}

bool is_called(const Json& device, const std::string& name) {
  return text_of(device, "device") == name ||
         text_of(device, "session") + "/" + text_of(device, "mapping_path") == name ||
         text_of(device, "mapping_path") == name;
}

/// Without their paths, which are the session's.
Json devices_of(const Json& list, const std::string& session) {
  Json devices = Json::array();
  for (Json device : list.at("devices")) {
    if (text_of(device, "session") != session) continue;
    device.erase("paths");
    devices.push_back(std::move(device));
  }
  return devices;
}

Result<Json> only_one(std::vector<Json> found, const std::string& name) {
  if (found.size() == 1) return std::move(found.front());
  if (found.empty()) return fail(ENOENT, fmt::format("no device, session or path is '{}'", name));
  return fail(EINVAL, fmt::format("{} things are called '{}': say SESSION/DEVICE, or a node",
                                  found.size(), name));
}

void show_into(const Json& object, const std::string& indent, std::string& text) {
  for (const auto& [name, value] : object.items()) {
    if (!value.is_array()) {
      const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
      text += fmt::format("{}{}: {}\n", indent, name, printable(shown));
      continue;
    }
    for (const Json& one : value) {
      text += fmt::format("{}{}:\n", indent, name);
      show_into(one, indent + "  ", text);
    }
  }
}

}  // namespace

std::string tree_text(const Json& list, const Json& paths) {
  std::string text;
  for (const std::string& session : session_names(list, paths)) {
    std::vector<std::string> lines;
    lines.reserve(paths.at("paths").size() + list.at("devices").size());
    const auto of_paths = of_session(paths.at("paths"), session);
    for (const Json* const path : of_paths) lines.push_back(path_line(*path));
    for (const Json* const device : of_session(list.at("devices"), session)) {
      lines.push_back(device_line(*device));
    }
    text += fmt::format("{}  {}\n", printable(session),
                        of_paths.empty() ? "-" : text_of(*of_paths.front(), "policy"));
    for (const std::string& line : lines) {
      text += fmt::format("{}─ {}\n", &line == &lines.back() ? "└" : "├", line);
    }
  }
  return text;
}

Result<Json> find_object(const Json& list, const Json& paths, const std::string& name) {
  std::vector<Json> found;
  for (const Json& device : list.at("devices")) {
    if (is_called(device, name)) found.push_back(device);
  }
  for (const std::string& session : session_names(list, paths)) {
    if (session != name) continue;
    Json object = {
        {"session", session}, {"paths", Json::array()}, {"devices", devices_of(list, session)}};
    for (const Json* const path : of_session(paths.at("paths"), session)) {
      object["paths"].push_back(*path);
    }
    found.push_back(std::move(object));
  }
  for (const Json& path : paths.at("paths")) {
    if (text_of(path, "path") == name) found.push_back(path);
  }
  return only_one(std::move(found), name);
}

Result<Json> find_server_object(const Json& list, const Json& sessions, const std::string& name) {
  std::vector<Json> found;
  for (const Json& device : list.at("devices")) {
    if (is_called(device, name)) found.push_back(device);
  }
  for (Json session : sessions.at("sessions")) {
    if (text_of(session, "session") != name) continue;
    session["devices"] = devices_of(list, name);
    found.push_back(std::move(session));
  }
  return only_one(std::move(found), name);
}

Result<Json> parts_of(const Json& list, const Json& paths, const std::string& name) {
  if (name.empty()) return Json{{"devices", list.at("devices")}, {"paths", paths.at("paths")}};
  const auto found = find_object(list, paths, name);
  if (!found) return fail(found.error());
  Json parts = {{"devices", members(*found, "devices")}, {"paths", members(*found, "paths")}};
  if (found->contains("device")) parts["devices"].push_back(*found);
  if (found->contains("policy")) parts["paths"].push_back(*found);
  return parts;
}

Json client_sessions(const Json& list, const Json& paths) {
  Json sessions = Json::array();
  for (const std::string& name : session_names(list, paths)) {
    const auto devices = of_session(list.at("devices"), name);
    Json session = {{"session", name}, {"policy", ""}, {"devices", devices.size()}};
    std::uint64_t in_flight = 0;
    for (const Json* const device : devices) in_flight += number_of(*device, "in_flight");
    session["in_flight"] = in_flight;
    session["paths"] = Json::array();
    for (const Json* const path : of_session(paths.at("paths"), name)) {
      session["policy"] = text_of(*path, "policy");
      session["paths"].push_back(*path);
    }
    sessions.push_back(std::move(session));
  }
  return {{"schema_version", control::kSchemaVersion}, {"sessions", std::move(sessions)}};
}

std::string show_text(const Json& object) {
  std::string text;
  show_into(object, "", text);
  return text;
}

CheckResult check(const Json& list, const Json& paths, const std::string& name) {
  const auto parts = parts_of(list, paths, name);
  if (!parts && parts.error().code == EINVAL) {
    return {Health::Failed, "UNKNOWN: " + parts.error().message};
  }
  if (!parts) return {Health::NotMapped, "NOT MAPPED: " + parts.error().message};
  const Json& object = *parts;
  for (const Json& device : object.at("devices")) {
    if (text_of(device, "state") != "open")
      return {Health::Failed, "FAILED: " + device_line(device)};
  }
  for (const Json& path : object.at("paths")) {
    if (text_of(path, "state") != "connected") {
      const bool alone = object.at("devices").empty() && object.at("paths").size() == 1;
      return {alone ? Health::Failed : Health::Degraded,
              (alone ? "FAILED: " : "DEGRADED: ") + path_line(path)};
    }
  }
  return {Health::Healthy, fmt::format("OK: {} devices, {} paths", object.at("devices").size(),
                                       object.at("paths").size())};
}

}  // namespace rnbd::cli
