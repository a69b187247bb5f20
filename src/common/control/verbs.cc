// SPDX-License-Identifier: Apache-2.0
#include "common/control/verbs.h"

#include <algorithm>
#include <utility>

namespace rnbd::control {

Json map_args(std::span<const std::string> words) {
  Json list = Json::array();
  for (const std::string& word : words) list.push_back(word);
  return {{"words", std::move(list)}};
}

Json to_json(const UnmapArgs& args) { return {{"device", args.device}, {"force", args.force}}; }

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
  return json;
}

Json list_result(Json devices) {
  return {{"schema_version", kSchemaVersion}, {"devices", std::move(devices)}};
}

Result<std::vector<std::string>> read_map_args(const Json& args) {
  const auto words = args.find("words");
  if (words == args.end() || !words->is_array()) return fail(EINVAL, "map needs an array 'words'");
  std::vector<std::string> list;
  for (const Json& word : *words) {
    if (!word.is_string()) return fail(EINVAL, "the words of map are strings");
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

Result<std::string> read_map_result(const Json& result) {
  if (result.is_object()) {
    const auto device = result.find("device");
    if (device != result.end() && device->is_string()) return device->get<std::string>();
  }
  return fail(EPROTO, "the daemon mapped the device but does not say as which node");
}

Status check_list_result(const Json& result) {
  const auto devices = result.is_object() ? result.find("devices") : result.end();
  const bool list = devices != result.end() && devices->is_array() &&
                    std::ranges::all_of(*devices, [](const Json& d) { return d.is_object(); });
  if (!list) return fail(EPROTO, "the daemon's list holds no array of devices");
  return {};
}

}  // namespace rnbd::control
