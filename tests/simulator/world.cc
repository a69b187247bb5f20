// SPDX-License-Identifier: Apache-2.0
#include "simulator/world.h"

#include <cstdio>

namespace rnbd::simulator {

bool World::run_events() {
  bool any = false;
  while (!events_.empty() && events_.begin()->first <= now_) {
    const auto what = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    what();
    any = true;
  }
  return any;
}

Duration World::some_time(Duration most) {
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(most).count();
  const std::int64_t shorter = nanoseconds >> below(8);
  return std::chrono::nanoseconds(
      shorter == 0 ? 0
                   : static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(shorter)));
}

void World::write(std::string line) {
  const std::chrono::duration<double> since = now_ - TimePoint{std::chrono::hours(1)};
  line = fmt::format("[{:11.6f}] {}", since.count(), line);
  if (follow_) std::fprintf(stderr, "%s\n", line.c_str());
  record_.push_back(std::move(line));
  if (record_.size() > kLines) record_.pop_front();
}

}  // namespace rnbd::simulator
