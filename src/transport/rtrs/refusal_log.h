// SPDX-License-Identifier: Apache-2.0
// The log's lines about clients that are refused: one a second at most for each client and reason,
// since who is refused comes again at once, and may do so to fill the log. Control thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "common/control_context.h"
#include "common/result.h"

namespace rnbd::rtrs {

class RefusalLog {
 public:
  explicit RefusalLog(ControlContext& control) : control_(control) {}

  /// Logs it; or counts it if there was a line about `client` and the same errno within the last
  /// second. What was counted is told when the second is over.
  void tell(const std::string& client, const Error& why);

 private:
  using Key = std::pair<std::string, int>;
  struct Silence {
    std::uint64_t left_out = 0;
    Error last;
    std::unique_ptr<ControlContext::Timer> end;
  };

  void begin(const Key& key);
  void end(const Key& key);

  ControlContext& control_;
  std::map<Key, Silence> silences_;
};

}  // namespace rnbd::rtrs
