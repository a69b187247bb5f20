// SPDX-License-Identifier: Apache-2.0
// What all parts of one simulated run share: its time, its chance, its record, and whether it has
// failed. Everything is drawn from one seed, so the same seed is the same run. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/clock.h"

namespace rnbd::simulator {

class World {
 public:
  /// `follow`: print the record as it is written.
  World(std::uint64_t seed, bool follow) : random_(seed), follow_(follow) {}

  [[nodiscard]] TimePoint now() const { return now_; }
  void advance_to(TimePoint then) { now_ = then; }

  /// Runs `what` once that time has passed.
  void after(Duration delay, std::function<void()> what) {
    events_.emplace(now_ + delay, std::move(what));
  }
  /// Runs what is due; false if nothing was.
  bool run_events();
  [[nodiscard]] TimePoint next_event() const {
    return events_.empty() ? kNever : events_.begin()->first;
  }

  std::uint32_t below(std::uint32_t end) { return static_cast<std::uint32_t>(random_() % end); }
  bool one_in(std::uint32_t count) { return below(count) == 0; }
  /// Between nothing and `most`, mostly short.
  Duration some_time(Duration most);
  /// The same for what people and machines do, and not for what a packet or a disk takes: all of
  /// that is so many times as far apart, and lasts so many times as long, as in a run where
  /// everything happens at once.
  Duration some_while(Duration most) { return some_time(most * tempo_); }
  void set_tempo(unsigned tempo) { tempo_ = tempo; }
  [[nodiscard]] unsigned tempo() const { return tempo_; }
  [[nodiscard]] std::uint64_t any_number() { return random_(); }

  /// Of a thing that happens all the time, and is worth a line only while somebody looks on.
  template <typename... Args>
  void detail(fmt::format_string<Args...> text, Args&&... args) {
    if (follow_) write(fmt::format(text, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void note(fmt::format_string<Args...> text, Args&&... args) {
    write(fmt::format(text, std::forward<Args>(args)...));
  }
  /// The run has shown a bug; the first one counts.
  template <typename... Args>
  void fail(fmt::format_string<Args...> text, Args&&... args) {
    std::string why = fmt::format(text, std::forward<Args>(args)...);
    write("FAILED: " + why);
    if (!failure_) failure_ = std::move(why);
  }
  [[nodiscard]] const std::optional<std::string>& failure() const { return failure_; }
  /// The last lines of the record.
  [[nodiscard]] const std::deque<std::string>& record() const { return record_; }

 private:
  static constexpr std::size_t kLines = 60;
  void write(std::string line);

  std::mt19937_64 random_;
  const bool follow_;
  unsigned tempo_ = 1;
  TimePoint now_{std::chrono::hours(1)};
  std::multimap<TimePoint, std::function<void()>> events_;
  std::deque<std::string> record_;
  std::optional<std::string> failure_;
};

}  // namespace rnbd::simulator
