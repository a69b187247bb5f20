// SPDX-License-Identifier: Apache-2.0
// See scheduler.h.
#include "sim/scheduler.h"

#include <algorithm>

#include "common/assert.h"

namespace rnbd::sim {

bool Scheduler::step() {
  if (awake_.empty()) return false;
  const auto chosen = awake_.begin() + static_cast<std::ptrdiff_t>(pick(awake_.size()));
  Agent* const agent = *chosen;
  awake_.erase(chosen);
  agent->awake_ = false;
  agent->step_(agent->owner_);  // may destroy the agent
  return true;
}

std::size_t Scheduler::pick(std::size_t count) {
  RNBD_ASSERT(count > 0);
  // Not a std distribution: those differ between standard libraries, and a seed must not.
  return seeded() ? static_cast<std::size_t>(random_() % count) : 0;
}

Agent::~Agent() {
  if (awake_) std::erase(scheduler_.awake_, this);
}

void Agent::wake() {
  if (awake_) return;
  awake_ = true;
  scheduler_.awake_.push_back(this);
}

}  // namespace rnbd::sim
