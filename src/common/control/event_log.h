// SPDX-License-Identifier: Apache-2.0
// What has happened in a daemon, for whoever follows it: the last events, and who waits for the
// next one. Control thread; the control plane owns it.
//
// Followers ask again and again, each time for what came behind the last event they have seen; the
// answer waits a few seconds for one. Who has seen nothing, too little, or another daemon's events
// gets a snapshot instead, which the next events follow without a gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/control/server.h"
#include "common/control/verbs.h"
#include "common/control_context.h"

namespace rnbd::control {

class EventLog {
 public:
  /// How many events are kept.
  static constexpr std::size_t kKept = 1024;

  /// `snapshot`: what there is now, an object; asked on the control thread.
  EventLog(ControlContext& control, std::function<Json()> snapshot);

  /// `fields`: of an event of this kind, as docs/schema/event.schema.json has them.
  void add(const char* kind, const Json& fields);

  /// Answers "events".
  void serve(Commands& commands);

 private:
  struct Waiting {
    std::uint64_t number = 0;  ///< of the question
    std::uint64_t after = 0;
    Reply reply;
    std::unique_ptr<ControlContext::Timer> patience;
  };

  void answer(const Json& args, Reply reply);
  void answer_waiting();
  void give_up_waiting(std::uint64_t number);
  [[nodiscard]] Json events_after(std::uint64_t after) const;
  [[nodiscard]] Json result(Json events) const;

  ControlContext& control_;
  std::function<Json()> snapshot_;
  const std::string daemon_;  ///< unlike any other daemon's
  std::deque<Json> events_;   ///< numbers without gaps, up to last_
  std::uint64_t last_ = 0;
  std::uint64_t asked_ = 0;
  std::vector<Waiting> waiting_;
};

}  // namespace rnbd::control
