// SPDX-License-Identifier: Apache-2.0
// A thread that gives back what takes long to give back. A queue pair's destruction waits for
// packets that wait for a link, and a region's for the queue pair: seconds in which the control
// thread has to move requests to other paths. Whatever is given here has been put out of use
// before; it is destroyed in the order in which it came.
#pragma once

#include <condition_variable>
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

 private:
  using Thing = std::move_only_function<void()>;
  void put(Thing thing);
  void run();

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<Thing> things_;
  bool stopping_ = false;
  std::thread thread_;  ///< from the first thing on
};

}  // namespace rnbd::transport::verbs
