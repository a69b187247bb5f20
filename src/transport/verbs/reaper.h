// SPDX-License-Identifier: Apache-2.0
// A thread that gives back what takes long to give back. A queue pair's destruction waits for
// packets that wait for a link, and a region's for the queue pair: seconds in which the control
// thread has to move requests to other paths. A queue pair is put out of use before it is given
// here. Everything is destroyed in the order in which it came.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace rnbd::transport::verbs {

class Reaper {
 public:
  Reaper() = default;
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;
  ~Reaper();  ///< once everything is given back

  /// Destroys `thing` later. Control thread.
  template <typename T>
  void take(T thing) {
    put([thing = std::move(thing)] {});
  }

  /// Destroys `thing` behind what was taken before; at once, if nothing of that is left. Control
  /// thread.
  template <typename T>
  void take_behind(T thing) {
    if (pending_ > 0) take(std::move(thing));
  }

 private:
  using Thing = std::move_only_function<void()>;
  void put(Thing thing);
  void run();

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<Thing> things_;
  std::atomic<std::size_t> pending_ = 0;  ///< not destroyed yet
  bool stopping_ = false;
  std::thread thread_;  ///< from the first thing on
};

}  // namespace rnbd::transport::verbs
