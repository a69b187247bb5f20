// SPDX-License-Identifier: Apache-2.0
// See manual_context.h.
#include "sim/manual_context.h"

#include <algorithm>
#include <chrono>
#include <poll.h>
#include <utility>

#include <sys/stat.h>

#include "common/assert.h"

namespace rnbd::sim {

ManualContext::~ManualContext() {
  RNBD_ASSERT(
      std::ranges::all_of(watched_, [](const Watched& w) { return w.pollable == nullptr; }));
  RNBD_ASSERT(std::ranges::all_of(timed_, [](const Timed* t) { return t == nullptr; }));
}

void ManualContext::add(Pollable& pollable) {
  RNBD_ASSERT(std::ranges::find(watched_, &pollable, &Watched::pollable) == watched_.end());
  struct stat status{};
  const int fd = pollable.wait_fd();
  const bool socket = fd >= 0 && ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
  watched_.push_back({.pollable = &pollable, .socket = socket});
}

void ManualContext::remove(Pollable& pollable) {
  Watched& each = watched(pollable);
  sockets_used_ |= each.socket;
  each = {};
}

void ManualContext::wake(Pollable& pollable) {
  watched(pollable).quiet = false;
  watched(pollable).armed = false;
  woken_ = true;
}

void ManualContext::want_flush(Pollable& pollable) {
  Watched& each = watched(pollable);
  each.flush = true;
  each.quiet = false;
}

void ManualContext::add(Timed& timed) {
  RNBD_ASSERT(std::ranges::find(timed_, &timed) == timed_.end());
  timed_.push_back(&timed);
}

void ManualContext::remove(Timed& timed) { std::ranges::replace(timed_, &timed, nullptr); }

bool ManualContext::run_once() {
  running_ = true;
  bool busy = std::exchange(woken_, false);
  busy |= run_tasks();
  busy |= poll_all();
  busy |= run_timers();
  busy |= flush_all();
  std::erase_if(watched_, [](const Watched& w) { return w.pollable == nullptr; });
  std::erase(timed_, nullptr);
  running_ = false;
  return busy;
}

void ManualContext::stir_sockets() {
  for (Watched& each : watched_) each.quiet = false;
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
    if (watched_[i].pollable == nullptr || (patient_ && watched_[i].quiet)) continue;
    if (!is_told(watched_[i])) continue;
    const bool any = watched_[i].pollable->poll() > 0;
    Watched& each = watched_[i];
    each.armed = strict_ && !any && each.pollable != nullptr && each.pollable->arm();
    each.quiet = each.socket && !any;
    sockets_used_ |= each.socket && any;
    busy |= any;
  }
  return busy;
}

bool ManualContext::is_told(Watched& each) const {
  if (!each.armed) return true;
  pollfd asked{.fd = each.pollable->wait_fd(), .events = POLLIN, .revents = 0};
  return ::poll(&asked, 1, 0) > 0;
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
    sockets_used_ |= watched_[i].socket;
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

namespace {

/// Since when nobody has had anything to do.
class Silence {
 public:
  /// True while there is no reason to go on, for longer than `patience` where things come by
  /// themselves.
  bool lasts(bool busy, Network& network, Duration patience) {
    if (busy) {
      began_ = kNever;
      return false;
    }
    if (!network.rest()) return true;
    const TimePoint now = Clock::now();
    if (began_ == kNever) began_ = now;
    return now - began_ > patience;
  }

 private:
  TimePoint began_ = kNever;
};

}  // namespace

bool run_until(const std::function<bool()>& done, std::initializer_list<ManualContext*> contexts,
               Network& network, std::size_t max_rounds) {
  constexpr auto kPatience = std::chrono::seconds(20);
  Silence silence;
  for (std::size_t round = 0; round < max_rounds; ++round) {
    if (done()) return true;
    bool busy = network.step();
    for (ManualContext* const context : contexts) busy |= context->run_once();
    if (silence.lasts(busy, network, kPatience)) return done();
  }
  return done();
}

bool run_until_idle(std::initializer_list<ManualContext*> contexts, Network& network,
                    const std::function<bool()>& poll, std::size_t max_rounds) {
  constexpr auto kAWhile = std::chrono::milliseconds(60);
  Silence silence;
  for (std::size_t round = 0; round < max_rounds; ++round) {
    bool busy = network.step();
    for (ManualContext* const context : contexts) busy |= context->run_once();
    if (poll) busy |= poll();
    if (silence.lasts(busy, network, kAWhile)) return true;
  }
  return false;
}

void advance(Duration duration, std::initializer_list<ManualContext*> contexts) {
  for (ManualContext* const context : contexts) context->advance(duration);
}

}  // namespace rnbd::sim
