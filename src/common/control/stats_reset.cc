// SPDX-License-Identifier: Apache-2.0
#include "common/control/stats_reset.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "common/control/read_members.h"

namespace rnbd::control {
namespace {

constexpr const char* kDevices = "devices";
constexpr const char* kPaths = "paths";
constexpr const char* kMappingPath = "mapping_path";
constexpr const char* kPath = "path";

Json to_json(const std::vector<SessionPart>& parts, const char* name) {
  Json list = Json::array();
  for (const SessionPart& one : parts) list.push_back({{"session", one.session}, {name, one.name}});
  return list;
}

Status read_parts(const Json& args, const char* list, const char* name,
                  std::vector<SessionPart>& parts) {
  const auto found = args.find(list);
  if (found == args.end()) return {};
  if (!found->is_array()) return fail(EINVAL, fmt::format("'{}' of reset is an array", list));
  for (const Json& one : *found) {
    SessionPart& part = parts.emplace_back();
    if (!one.is_object()) return fail(EINVAL, fmt::format("'{}' of reset has objects", list));
    if (Status read = read_text(one, "session", part.session); !read) return read;
    if (Status read = read_text(one, name, part.name); !read) return read;
  }
  return {};
}

SessionPart part_of(const DeviceStats& stats) { return {stats.session, stats.mapping_path}; }

/// What has been counted on top of it. What there is at the moment stays what it is.
DeviceStats since(DeviceStats now, const DeviceStats& then) {
  // A device that is being unmapped counts no more, and says 0.
  if (now.reads < then.reads || now.writes < then.writes || now.flushes < then.flushes ||
      now.errors < then.errors || now.discards < then.discards ||
      now.write_zeroes < then.write_zeroes) {
    return now;
  }
  now.reads -= then.reads;
  now.read_bytes -= then.read_bytes;
  now.writes -= then.writes;
  now.written_bytes -= then.written_bytes;
  now.flushes -= then.flushes;
  now.discards -= then.discards;
  now.write_zeroes -= then.write_zeroes;
  now.errors -= then.errors;
  now.permit_waits -= then.permit_waits;
  now.latencies -= then.latencies;
  for (std::size_t i = 0; i < std::min(now.stages.size(), then.stages.size()); ++i) {
    now.stages[i].latencies -= then.stages[i].latencies;
  }
  return now;
}

}  // namespace

Json to_json(const ResetArgs& args) {
  if (args.everything) return Json::object();
  return {{kDevices, to_json(args.devices, kMappingPath)}, {kPaths, to_json(args.paths, kPath)}};
}

Result<ResetArgs> read_reset_args(const Json& args) {
  ResetArgs read{.everything = !args.contains(kDevices) && !args.contains(kPaths)};
  if (Status devices = read_parts(args, kDevices, kMappingPath, read.devices); !devices) {
    return fail(devices.error());
  }
  if (Status paths = read_parts(args, kPaths, kPath, read.paths); !paths) {
    return fail(paths.error());
  }
  return read;
}

Status StatsMarks::set(const std::vector<DeviceStats>& counted, const ResetArgs& which,
                       TimePoint now) {
  for (const SessionPart& wanted : which.devices) {
    if (std::ranges::find(counted, wanted, part_of) != counted.end()) continue;
    return fail(ENOENT, fmt::format("session {} has no device {}", wanted.session, wanted.name));
  }
  for (const DeviceStats& one : counted) {
    const bool wanted =
        which.everything || std::ranges::find(which.devices, part_of(one)) != which.devices.end();
    if (wanted) marks_[one.life] = {one, now};
  }
  return {};
}

Json StatsMarks::list(const std::vector<DeviceStats>& counted, TimePoint now) {
  std::erase_if(marks_, [&](const auto& mark) {
    return std::ranges::find(counted, mark.first, &DeviceStats::life) == counted.end();
  });
  Json list = Json::array();
  for (const DeviceStats& one : counted) {
    list.push_back(to_json(one));
    const auto mark = marks_.find(one.life);
    if (mark == marks_.end()) continue;
    Json since_reset = to_json(since(one, mark->second.counted));
    for (const char* const known : {"device", "session", kMappingPath, "in_flight"}) {
      since_reset.erase(known);
    }
    const auto passed = std::chrono::duration_cast<std::chrono::seconds>(now - mark->second.at);
    since_reset["seconds"] = static_cast<std::uint64_t>(passed.count());
    list.back()["since_reset"] = std::move(since_reset);
  }
  return list;
}

}  // namespace rnbd::control
