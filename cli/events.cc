// SPDX-License-Identifier: Apache-2.0
#include "cli/events.h"

#include <cstdint>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "cli/fields.h"
#include "cli/table.h"
#include "common/printable.h"

namespace rnbd::cli {
namespace {

using control::Json;

std::string time_of(std::uint64_t ns) {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  const auto seconds = static_cast<std::time_t>(ns / kSecond);
  std::tm local{};
  if (::localtime_r(&seconds, &local) == nullptr) return "-";
  return fmt::format("{:%H:%M:%S}.{:03}", local, ns % kSecond / 1'000'000);
}

/// What the event is about, and what of it.
std::string subject(const std::string& kind, const Json& event) {
  if (kind == "device") {
    return fmt::format("{} {}/{} {}", text_of(event, "device"), text_of(event, "session"),
                       text_of(event, "mapping_path"), human_size(number_of(event, "size_bytes")));
  }
  std::string session = text_of(event, "session");
  if (kind != "path") return session;
  const std::string path = text_of(event, "path");
  return fmt::format("{} {}", session,
                     path.empty() ? fmt::format("{} -> {}", text_of(event, "peer_address"),
                                                text_of(event, "local_address"))
                                  : path);
}

std::string line(std::uint64_t time_ns, const std::string& kind, const Json& event) {
  std::string reason = text_of(event, "reason");
  if (reason.empty() && text_of(event, "state") != "connected") {
    reason = text_of(event, "last_error");
  }
  return printable(fmt::format("{}  {:<7}  {}  {}{}{}", time_of(time_ns), kind,
                               subject(kind, event), text_of(event, "state"),
                               reason.empty() ? "" : ": ", reason)) +
         '\n';
}

std::string on_one_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace

std::string event_text(const Json& event) {
  return line(number_of(event, "time_ns"), text_of(event, "event"), event);
}

std::string snapshot_text(const Json& snapshot) {
  const std::uint64_t now = number_of(snapshot, "time_ns");
  std::string text;
  for (const auto& [list, kind] :
       {std::pair{"sessions", "session"}, {"paths", "path"}, {"devices", "device"}}) {
    const auto entries = snapshot.find(list);
    if (entries == snapshot.end() || !entries->is_array()) continue;
    for (Json entry : *entries) {
      if (!entry.is_object()) continue;
      if (!entry.contains("state")) entry["state"] = "up";
      text += line(now, kind, entry);
    }
  }
  return text;
}

std::string event_line(const Json& event) { return on_one_line(event); }

std::string snapshot_line(const Json& snapshot) {
  Json whole = {{"event", "snapshot"}};
  whole.update(snapshot);
  return on_one_line(whole);
}

}  // namespace rnbd::cli
