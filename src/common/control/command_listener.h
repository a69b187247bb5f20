// SPDX-License-Identifier: Apache-2.0
// Listening for commands where it must not fail: a daemon that has taken devices over goes on with
// them whoever has its socket, and takes commands once it can. Control thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "common/control/server.h"
#include "common/control_context.h"
#include "common/log.h"

namespace rnbd::control {

class CommandListener {
 public:
  static constexpr std::chrono::seconds kAgain{1};  ///< between attempts

  /// Both outlive it.
  CommandListener(ControlContext& control, ControlServer& server, std::string path)
      : control_(control), server_(server), path_(std::move(path)) {}

  /// Once. Errors: those of listen_at().
  Status listen() { return server_.listen(path_); }

  /// Again and again, until it works. Each new reason is logged.
  void insist() {
    const Status listening = listen();
    if (listening) {
      if (!told_.empty()) log::info("commands are taken at {} now", path_);
      return;
    }
    std::string why = describe(listening.error());
    if (why != told_) log::error("no commands are taken yet: {}", why);
    told_ = std::move(why);
    again_ = control_.call_after(kAgain, [this] { insist(); });
  }

 private:
  ControlContext& control_;
  ControlServer& server_;
  std::string path_;
  std::string told_;
  std::unique_ptr<ControlContext::Timer> again_;
};

}  // namespace rnbd::control
