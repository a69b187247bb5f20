// SPDX-License-Identifier: Apache-2.0
// See manual_context.h.
#include "sim/manual_context.h"

#include <algorithm>
#include <utility>

#include "common/assert.h"
#include "sim/memory_fabric.h"

namespace rnbd::sim {

ManualContext::~ManualContext() {
  RNBD_ASSERT(
      std::ranges::all_of(watched_, [](const Watched& w) { return w.pollable == nullptr; }));
  RNBD_ASSERT(std::ranges::all_of(timed_, [](const Timed* t) { return t == nullptr; }));
}

void ManualContext::add(Pollable& pollable) {
  RNBD_ASSERT(std::ranges::find(watched_, &pollable, &Watched::pollable) == watched_.end());
  watched_.push_back({.pollable = &pollable});
}

void ManualContext::remove(Pollable& pollable) { watched(pollable) = {}; }

void ManualContext::wake(Pollable& pollable) {
  RNBD_ASSERT(watched(pollable).pollable == &pollable);
  woken_ = true;
}

void ManualContext::want_flush(Pollable& pollable) { watched(pollable).flush = true; }

void ManualContext::add(Timed& timed) {
  RNBD_ASSERT(std::ranges::find(timed_, &timed) == timed_.end());
  timed_.push_back(&timed);
}

void ManualContext::remove(Timed& timed) { std::ranges::replace(timed_, &timed, nullptr); }

bool ManualContext::run_once() {
  bool busy = std::exchange(woken_, false);
  busy |= run_tasks();
  busy |= poll_all();
  busy |= run_timers();
  busy |= flush_all();
  std::erase_if(watched_, [](const Watched& w) { return w.pollable == nullptr; });
  std::erase(timed_, nullptr);
  return busy;
}

TimePoint ManualContext::next_deadline() const {
  TimePoint next = kNever;
  for (const Timed* timed : timed_) {
    if (timed != nullptr) next = std::min(next, timed->deadline());
  }
  return next;
}

bool ManualContext::run_tasks() {
  std::vector<Task> tasks = std::exchange(tasks_, {});
  for (Task& task : tasks) task();
  return !tasks.empty();
}

// Indices, since polling may add and remove; what is added is polled in the next round.
bool ManualContext::poll_all() {
  bool busy = false;
  for (std::size_t i = 0, count = watched_.size(); i < count; ++i) {
    if (watched_[i].pollable != nullptr) busy |= watched_[i].pollable->poll() > 0;
  }
  return busy;
}

bool ManualContext::run_timers() {
  bool busy = false;
  for (std::size_t i = 0, count = timed_.size(); i < count; ++i) {
    if (timed_[i] == nullptr || timed_[i]->deadline() > now_) continue;
    timed_[i]->on_deadline(now_);
    busy = true;
  }
  return busy;
}

bool ManualContext::flush_all() {
  bool busy = false;
  for (std::size_t i = 0, count = watched_.size(); i < count; ++i) {
    if (watched_[i].pollable == nullptr || !std::exchange(watched_[i].flush, false)) continue;
    watched_[i].pollable->flush();
    busy = true;
  }
  return busy;
}

ManualContext::Watched& ManualContext::watched(const Pollable& pollable) {
  const auto found = std::ranges::find(watched_, &pollable, &Watched::pollable);
  RNBD_ASSERT(found != watched_.end());
  return *found;
}

bool run_until(const std::function<bool()>& done, std::initializer_list<ManualContext*> contexts,
               MemoryFabric& fabric, std::size_t max_rounds) {
  for (std::size_t round = 0; round < max_rounds; ++round) {
    if (done()) return true;
    bool busy = fabric.step();
    for (ManualContext* const context : contexts) busy |= context->run_once();
    if (!busy) return done();
  }
  return done();
}

bool run_until_idle(std::initializer_list<ManualContext*> contexts, MemoryFabric& fabric,
                    std::size_t max_rounds) {
  bool busy = true;
  for (std::size_t round = 0; busy && round < max_rounds; ++round) {
    busy = fabric.step();
    for (ManualContext* const context : contexts) busy |= context->run_once();
  }
  return !busy;
}

void advance(Duration duration, std::initializer_list<ManualContext*> contexts) {
  for (ManualContext* const context : contexts) context->advance(duration);
}

}  // namespace rnbd::sim
