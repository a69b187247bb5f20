// SPDX-License-Identifier: Apache-2.0
// Decides what happens next in the simulated network. Everything that can take a step is an Agent;
// woken agents wait in one list, from which the scheduler takes the oldest or, with a seed, any
// one. The same seed and the same calls give the same run. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>

namespace rnbd::sim {

class Agent;

class Scheduler {
 public:
  /// `seed` 0: first come, first served.
  explicit Scheduler(std::uint64_t seed) : seed_(seed), random_(seed) {}

  /// Lets one agent take a step; false if none was awake.
  bool step();

  [[nodiscard]] bool seeded() const { return seed_ != 0; }

  /// One of `count` (at least 1) alternatives; always the first without a seed.
  std::size_t pick(std::size_t count);

 private:
  friend class Agent;

  std::uint64_t seed_;
  std::mt19937_64 random_;
  std::deque<Agent*> awake_;
};

/// Sleeps until woken, then takes one step and sleeps again. Calls a method of its owner, of which
/// it is a member; the owner may be destroyed by its own step.
class Agent {
 public:
  template <auto Method, typename Owner>
  static Agent calling(Scheduler& scheduler, Owner* owner) {
    return Agent(scheduler, owner, [](void* self) { (static_cast<Owner*>(self)->*Method)(); });
  }

  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  ~Agent();

  /// Puts it on the list, unless it is there.
  void wake();

 private:
  friend class Scheduler;
  using Step = void (*)(void*);

  Agent(Scheduler& scheduler, void* owner, Step step)
      : scheduler_(scheduler), owner_(owner), step_(step) {}

  Scheduler& scheduler_;
  void* owner_;
  Step step_;
  bool awake_ = false;
};

}  // namespace rnbd::sim
