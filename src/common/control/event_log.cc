// SPDX-License-Identifier: Apache-2.0
#include "common/control/event_log.h"

#include <algorithm>
#include <chrono>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace rnbd::control {
namespace {

/// Well below the time for which commands wait for an answer.
constexpr std::chrono::seconds kPatience{5};

std::uint64_t now_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace

EventLog::EventLog(ControlContext& control, std::function<Json()> snapshot)
    : control_(control),
      snapshot_(std::move(snapshot)),
      daemon_(fmt::format("{}-{}", ::getpid(), now_ns())) {}

void EventLog::serve(Commands& commands) {
  commands.handle(kEventsVerb,
                  [this](const Json& args, Reply reply) { answer(args, std::move(reply)); });
}

void EventLog::add(const char* kind, const Json& fields) {
  Json event = {{"number", ++last_}, {"time_ns", now_ns()}, {"event", kind}};
  event.update(fields);
  events_.push_back(std::move(event));
  if (events_.size() > kKept) events_.pop_front();
  answer_waiting();
}

void EventLog::answer(const Json& args, Reply reply) {
  const auto seen = read_events_args(args);
  if (!seen) return reply(fail(seen.error()));
  const std::uint64_t forgotten = last_ - events_.size();
  if (seen->daemon != daemon_ || seen->after < forgotten || seen->after > last_) {
    Json answered = result(Json::array());
    answered["snapshot"] = snapshot_();
    answered["snapshot"]["time_ns"] = now_ns();
    return reply(std::move(answered));
  }
  if (seen->after < last_) return reply(result(events_after(seen->after)));
  const std::uint64_t number = ++asked_;
  waiting_.push_back(
      {.number = number,
       .after = last_,
       .reply = std::move(reply),
       .patience = control_.call_after(kPatience, [this, number] { give_up_waiting(number); })});
}

Json EventLog::events_after(std::uint64_t after) const {
  Json events = Json::array();
  for (const Json& event : events_) {
    if (event.at("number").get<std::uint64_t>() > after) events.push_back(event);
  }
  return events;
}

Json EventLog::result(Json events) const {
  return {{"schema_version", kSchemaVersion},
          {"daemon", daemon_},
          {"next", last_},
          {"events", std::move(events)}};
}

void EventLog::answer_waiting() {
  for (Waiting& one : std::exchange(waiting_, {})) one.reply(result(events_after(one.after)));
}

void EventLog::give_up_waiting(std::uint64_t number) {
  const auto found = std::ranges::find(waiting_, number, &Waiting::number);
  if (found == waiting_.end()) return;
  // A Reply only moves, and is not assigned.
  Reply reply = std::move(found->reply);
  std::vector<Waiting> others;
  for (Waiting& one : waiting_) {
    if (one.number != number) others.push_back(std::move(one));
  }
  waiting_.swap(others);
  reply(result(Json::array()));
}

}  // namespace rnbd::control
