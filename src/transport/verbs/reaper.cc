// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/reaper.h"

#include <pthread.h>

namespace rnbd::transport::verbs {

Reaper::~Reaper() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  came_.notify_one();
  thread_.join();
}

void Reaper::put(Thing thing) {
  {
    const std::lock_guard lock(mutex_);
    things_.push_back(std::move(thing));
    ++pending_;
  }
  came_.notify_one();
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void Reaper::run() {
  pthread_setname_np(pthread_self(), "rnbd-reaper");
  std::unique_lock lock(mutex_);
  for (;;) {
    came_.wait(lock, [this] { return stopping_ || !things_.empty(); });
    if (things_.empty()) return;
    Thing thing = std::move(things_.front());
    things_.pop_front();
    lock.unlock();
    thing = nullptr;  // here it dies
    --pending_;
    lock.lock();
  }
}

}  // namespace rnbd::transport::verbs
