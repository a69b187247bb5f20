// SPDX-License-Identifier: Apache-2.0
// A worker on the test's own thread. Arrivals are told once, when they happen (EPOLLET): whoever
// stops reading early and waits for another signal hangs here as it would on the real one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "common/unique_fd.h"
#include "transport/worker.h"

namespace rnbd::test {

class EdgeWorker final : public WorkerContext {
 public:
  void post(Task task) override { tasks_.push_back(std::move(task)); }

  void signal(Pollable& pollable) override { wake(pollable); }

  void add(Pollable& pollable) override {
    watched_.push_back({.pollable = &pollable, .active = true});
    control(arrivals_, EPOLL_CTL_ADD, pollable, EPOLLIN | EPOLLRDHUP | EPOLLET);
    control(writable_, EPOLL_CTL_ADD, pollable, EPOLLET);
  }
  void remove(Pollable& pollable) override {
    control(arrivals_, EPOLL_CTL_DEL, pollable, 0);
    control(writable_, EPOLL_CTL_DEL, pollable, 0);
    std::erase_if(watched_, [&](const Watched& one) { return one.pollable == &pollable; });
  }
  void wake(Pollable& pollable) override { find(pollable).active = true; }
  void want_flush(Pollable& pollable) override {
    EXPECT_FALSE(std::exchange(find(pollable).flush, true)) << "asked twice in one round";
  }
  void want_writable(Pollable& pollable) override {
    ++writable_waits;
    control(writable_, EPOLL_CTL_MOD, pollable, EPOLLOUT | EPOLLONESHOT);
  }
  void add(Timed&) override { FAIL() << "nobody here has timers"; }
  void remove(Timed&) override {}
  [[nodiscard]] TimePoint now() const override { return time; }

  /// One round; false if there was nothing to do and nothing has been signalled.
  bool round() {
    bool any = false;
    for (auto tasks = std::exchange(tasks_, {}); auto& task : tasks) {
      task();
      any = true;
    }
    for (const UniqueFd* set : {&arrivals_, &writable_}) any = take_signals(*set) || any;
    for (std::size_t i = 0; i < watched_.size(); ++i) {
      if (!std::exchange(watched_[i].active, false)) continue;
      Pollable& pollable = *watched_[i].pollable;
      const bool found = pollable.poll() > 0;
      any = any || found;
      const bool drained = pollable.drained() && !watched_[i].ended;
      if (!drained && (found || !pollable.arm())) watched_[i].active = true;
    }
    for (std::size_t i = 0; i < watched_.size(); ++i) {
      if (!std::exchange(watched_[i].flush, false)) continue;
      watched_[i].pollable->flush();
      any = true;
    }
    return any;
  }

  int writable_waits = 0;
  TimePoint time;  ///< the epoch, which no request is timed from, until a test says else

 private:
  struct Watched {
    Pollable* pollable = nullptr;
    bool active = false;
    bool ended = false;
    bool flush = false;
  };

  static UniqueFd make_set() { return UniqueFd(::epoll_create1(EPOLL_CLOEXEC)); }

  static void control(const UniqueFd& set, int what, Pollable& pollable, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &pollable;
    EXPECT_EQ(::epoll_ctl(set.get(), what, pollable.wait_fd(), &event), 0);
  }

  bool take_signals(const UniqueFd& set) {
    std::array<epoll_event, 16> events{};
    const int count = ::epoll_wait(set.get(), events.data(), events.size(), 0);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      Watched& watched = find(*static_cast<Pollable*>(event.data.ptr));
      watched.active = true;
      watched.ended |= (event.events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
    }
    return count > 0;
  }

  Watched& find(const Pollable& pollable) {
    const auto one = std::ranges::find(watched_, &pollable, &Watched::pollable);
    EXPECT_NE(one, watched_.end());
    return *one;
  }

  UniqueFd arrivals_ = make_set();
  UniqueFd writable_ = make_set();
  std::vector<Watched> watched_;
  std::deque<Task> tasks_;
};

}  // namespace rnbd::test
