// SPDX-License-Identifier: Apache-2.0
// Discards on block devices. Linux has no asynchronous way to ask for one before 6.12 (fallocate's
// FALLOC_FL_NO_HIDE_STALE is refused before it reaches the device), only the blocking ioctl
// BLKDISCARD: so each store has a thread that does nothing else. The store owns it. Jobs are
// linked, not copied; handing one over takes a short lock.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::server {

/// A discard to be done. The owner keeps it in place until it comes back.
struct DiscardJob {
  int fd = -1;
  std::uint64_t offset = 0;  ///< bytes
  std::uint64_t length = 0;  ///< bytes
  std::uint32_t owner = 0;   ///< the owner's mark
  int error = 0;             ///< the outcome: 0 or a positive errno
  DiscardJob* next = nullptr;
};

class DiscardThread {
 public:
  /// Errors: those of eventfd(2) and of starting a thread.
  static Result<std::unique_ptr<DiscardThread>> start();

  /// Does what was handed over before, then ends.
  ~DiscardThread();
  DiscardThread(const DiscardThread&) = delete;
  DiscardThread& operator=(const DiscardThread&) = delete;

  void submit(DiscardJob& job);

  /// The jobs done since the last call, oldest first, linked by `next`; null: none.
  DiscardJob* take_done();

  /// An eventfd in blocking mode: a read of 8 bytes ends when jobs are done.
  [[nodiscard]] int wait_fd() const { return event_.get(); }

 private:
  class List {
   public:
    void push(DiscardJob& job);
    DiscardJob* pop();
    DiscardJob* take_all();

   private:
    DiscardJob* first_ = nullptr;
    DiscardJob* last_ = nullptr;
  };

  explicit DiscardThread(UniqueFd event) : event_(std::move(event)) {}
  void run();
  void finish(DiscardJob& job);

  UniqueFd event_;
  std::mutex mutex_;
  std::condition_variable work_;
  List waiting_;
  List done_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace rnbd::server
