// SPDX-License-Identifier: Apache-2.0
// Reading the configuration again while a daemon runs: by the verb `reload`, and on SIGHUP. Control
// thread.
#pragma once

#include <csignal>
#include <expected>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/control/admin_verbs.h"
#include "common/control/daemon_loop.h"
#include "common/control/server.h"
#include "common/log.h"

namespace rnbd::control {

using Reloaded = std::expected<ReloadResult, Failure>;

/// `adopt` puts into `running` what may change, and in force, or fails before it has changed
/// anything; `differ` names the keys that two options do not have in common. A wrong file changes
/// nothing: exit code 12.
template <typename Options, typename Adopt, typename Differ>
Reloaded reload(Options& running, Adopt adopt, Differ differ) {
  Options fresh;
  if (auto read = running.read_again(fresh); !read) return std::unexpected(read.error());
  const auto names = [&](const Options& one, const Options& other) {
    const std::vector<std::string_view> keys = differ(one, other);
    return std::vector<std::string>(keys.begin(), keys.end());
  };
  Options adopted = running;
  if (Status possible = adopt(adopted, fresh); !possible) {
    return std::unexpected(Failure{possible.error(), ExitCode::ConfigInvalid, {}});
  }
  ReloadResult result{.changed = names(running, adopted), .needs_restart = names(adopted, fresh)};
  running = std::move(adopted);
  return result;
}

inline void log_reload(const Reloaded& reloaded) {
  if (!reloaded) return log::error("not reloaded: {}", reloaded.error().error.message);
  log::info("reloaded: {} keys have changed", reloaded->changed.size());
  if (reloaded->needs_restart.empty()) return;
  log::warn("needs a restart: {}", fmt::join(reloaded->needs_restart, ", "));
}

/// `loop` and `commands` outlive what `reload` stands on.
inline void serve_reload(DaemonLoop& loop, Commands& commands, std::function<Reloaded()> reload) {
  const auto logged = [reload = std::move(reload)] {
    Reloaded reloaded = reload();
    log_reload(reloaded);
    return reloaded;
  };
  loop.on_signal(SIGHUP, [logged] { static_cast<void>(logged()); });
  commands.handle(kReloadVerb, [logged](const Json&, Reply reply) {
    const Reloaded reloaded = logged();
    if (reloaded) {
      reply(to_json(*reloaded));
    } else {
      reply.refuse(reloaded.error());
    }
  });
}

}  // namespace rnbd::control
