// SPDX-License-Identifier: Apache-2.0
// Following a daemon's events: nothing is missed, nothing comes twice, and who has missed too much
// is told what there is now.
#include "common/control/event_log.h"

#include <map>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "sim/manual_control.h"

namespace rnbd::control {
namespace {

class Verbs final : public Commands {
 public:
  void handle(std::string verb, Handler handler) override { handlers_[verb] = std::move(handler); }
  Handler& operator[](const std::string& verb) { return handlers_.at(verb); }

 private:
  std::map<std::string, Handler> handlers_;
};

class Events : public testing::Test {
 protected:
  Events() { log_.serve(verbs_); }

  /// Asks for what came behind `seen`; the answer is in answer_ when it has come.
  void ask(const EventsSeen& seen) {
    answer_.reset();
    verbs_["events"](to_json(seen), Reply([this](const Outcome& outcome) { answer_ = *outcome; }));
  }

  /// Who follows from now on.
  EventsSeen begin() {
    ask({});
    return seen();
  }

  EventsSeen seen() {
    return {answer_->at("daemon").get<std::string>(), answer_->at("next").get<std::uint64_t>()};
  }

  void add(const char* state) { log_.add("path", {{"session", "blya"}, {"state", state}}); }

  std::string states() {
    std::string states;
    for (const Json& event : answer_->at("events")) {
      states += event.at("state").get<std::string>() + ' ';
    }
    return states;
  }

  void pass(Duration time) {
    control_.context().advance(time);
    while (control_.context().run_once()) continue;
  }

  sim::ManualControl control_;
  Verbs verbs_;
  EventLog log_{control_, [] { return Json{{"devices", {"one"}}}; }};
  std::optional<Json> answer_;
};

TEST_F(Events, BeginWithASnapshotThatTheNextEventsFollow) {
  add("lost");
  ask({});
  ASSERT_TRUE(answer_);
  EXPECT_TRUE(check_events_result(*answer_));
  EXPECT_EQ(answer_->at("snapshot").at("devices").dump(), R"(["one"])");
  EXPECT_EQ(states(), "");
  const EventsSeen first = seen();
  add("connected");
  add("lost");
  ask(first);
  EXPECT_FALSE(answer_->contains("snapshot"));
  EXPECT_EQ(states(), "connected lost ");
  EXPECT_EQ(answer_->at("events")[0].at("number"), 2);
  EXPECT_EQ(answer_->at("events")[0].at("event"), "path");
}

TEST_F(Events, AreWaitedFor) {
  ask(begin());
  EXPECT_FALSE(answer_);
  add("connected");
  ASSERT_TRUE(answer_);
  EXPECT_EQ(states(), "connected ");
}

TEST_F(Events, AreWaitedForByMany) {
  const EventsSeen from = begin();
  int answered = 0;
  for (int i = 0; i < 3; ++i) {
    verbs_["events"](to_json(from), Reply([&](const Outcome& outcome) {
                       answered += outcome->at("events").size() == 1 ? 1 : 0;
                     }));
  }
  add("connected");
  EXPECT_EQ(answered, 3);
}

TEST_F(Events, OfWhichNoneComesAreAnsweredAllTheSame) {
  ask(begin());
  pass(std::chrono::seconds(6));
  ASSERT_TRUE(answer_);
  EXPECT_EQ(states(), "");
  ask(seen());
  add("lost");
  EXPECT_EQ(states(), "lost ");
}

TEST_F(Events, ThatAreForgottenBecomeASnapshot) {
  const EventsSeen from = begin();
  for (std::size_t i = 0; i < EventLog::kKept; ++i) add("lost");
  ask(from);
  EXPECT_FALSE(answer_->contains("snapshot"));
  add("lost");
  ask(from);
  EXPECT_TRUE(answer_->contains("snapshot"));
  EXPECT_EQ(states(), "");
}

TEST_F(Events, OfAnotherDaemonBecomeASnapshot) {
  EventsSeen from = begin();
  from.daemon += "x";
  ask(from);
  EXPECT_TRUE(answer_->contains("snapshot"));
  from = seen();
  from.after += 1;  // what has not happened yet
  ask(from);
  EXPECT_TRUE(answer_->contains("snapshot"));
}

TEST_F(Events, AskedForWithoutSenseAreRefused) {
  std::string message;
  verbs_["events"]({{"after", "x"}},
                   Reply([&](const Outcome& outcome) { message = outcome.error().error.message; }));
  EXPECT_EQ(message, "'after' is the number of an event");
}

}  // namespace
}  // namespace rnbd::control
