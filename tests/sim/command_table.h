// SPDX-License-Identifier: Apache-2.0
// The daemon's end of the control socket, without the socket: what a control plane serves is called
// by name. The control plane's thread.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "common/control/verbs.h"

namespace rnbd::sim {

class CommandTable final : public control::Commands {
 public:
  void handle(std::string verb, Handler handler) override {
    handlers_[std::move(verb)] = std::move(handler);
  }

  /// Throws std::out_of_range for a verb that nobody serves.
  void call(const std::string& verb, const control::Json& args, control::Reply reply) {
    handlers_.at(verb)(args, std::move(reply));
  }

 private:
  std::map<std::string, Handler> handlers_;
};

}  // namespace rnbd::sim
