// SPDX-License-Identifier: Apache-2.0
// Reading the configuration again while a daemon runs: by the verb `reload`, and on SIGHUP. Control
// thread, but for the reading: files may lie where they keep their reader waiting.
#pragma once

#include <algorithm>
#include <csignal>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/control/admin_verbs.h"
#include "common/control/blocking_pool.h"
#include "common/control/daemon_loop.h"
#include "common/control/server.h"
#include "common/log.h"

namespace rnbd::control {

using Reloaded = std::expected<ReloadResult, Failure>;

/// `Options` have a `read_again`, which makes new ones of what the files say now. It runs on a
/// thread of its own, and uses nothing that changes.
template <typename Options>
class Reloader {
 public:
  /// Puts into `running` what may change, and in force; answers what is refused. Or fails before it
  /// has changed anything.
  using Adopt = std::function<Result<std::vector<ReloadResult::Refused>>(Options& running,
                                                                         const Options& fresh)>;
  /// Names the keys that two options do not have in common.
  using Differ = std::vector<std::string_view> (*)(const Options& one, const Options& other);

  /// `running` outlives it.
  Reloader(Executor& control, Options& running, Adopt adopt, Differ differ)
      : running_(running), adopt_(std::move(adopt)), differ_(differ), reader_(control, 1) {}

  /// One after the other. A wrong file changes nothing: exit code 12.
  void reload(std::move_only_function<void(const Reloaded&)> done) {
    reader_.run([again = running_.read_again] { return read(again); },
                [this, done = std::move(done)](Read fresh) mutable {
                  const Reloaded reloaded =
                      fresh ? take(*fresh) : std::unexpected(std::move(fresh.error()));
                  tell(reloaded);
                  done(reloaded);
                });
  }

 private:
  using Read = std::expected<Options, Failure>;

  static Read read(const decltype(Options::read_again)& again) {
    Options fresh;
    if (auto done = again(fresh); !done) return std::unexpected(std::move(done.error()));
    return fresh;
  }

  Reloaded take(const Options& fresh) {
    Options adopted = running_;
    auto refused = adopt_(adopted, fresh);
    if (!refused) {
      return std::unexpected(Failure{refused.error(), ExitCode::ConfigInvalid, {}});
    }
    ReloadResult result{.changed = names(running_, adopted),
                        .needs_restart = names(adopted, fresh),
                        .refused = std::move(*refused)};
    for (const ReloadResult::Refused& one : result.refused) {
      std::erase(result.needs_restart, one.key);
    }
    running_ = std::move(adopted);
    return result;
  }

  std::vector<std::string> names(const Options& one, const Options& other) const {
    const std::vector<std::string_view> keys = differ_(one, other);
    return {keys.begin(), keys.end()};
  }

  static void tell(const Reloaded& reloaded) {
    if (!reloaded) return log::error("not reloaded: {}", reloaded.error().error.message);
    log::info("reloaded: {} keys have changed", reloaded->changed.size());
    for (const auto& [key, why] : reloaded->refused) log::warn("not changed: {}: {}", key, why);
    if (reloaded->needs_restart.empty()) return;
    log::warn("needs a restart: {}", fmt::join(reloaded->needs_restart, ", "));
  }

  Options& running_;
  Adopt adopt_;
  Differ differ_;
  BlockingPool reader_;
};

/// `reloader` outlives what `loop` and `commands` do.
template <typename Options>
void serve_reload(DaemonLoop& loop, Commands& commands, Reloader<Options>& reloader) {
  loop.on_signal(SIGHUP, [&reloader] { reloader.reload([](const Reloaded&) {}); });
  commands.handle(kReloadVerb, [&reloader](const Json&, Reply reply) {
    reloader.reload([reply = std::move(reply)](const Reloaded& reloaded) mutable {
      if (reloaded) {
        reply(to_json(*reloaded));
      } else {
        reply.refuse(reloaded.error());
      }
    });
  });
}

}  // namespace rnbd::control
