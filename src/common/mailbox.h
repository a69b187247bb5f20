// SPDX-License-Identifier: Apache-2.0
// Tasks for one thread, posted by any. The owner drains it when its descriptor becomes readable.
// A post takes a lock and allocates: for control work, never per request.
#pragma once

#include <mutex>
#include <vector>

#include "common/executor.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd {

class Mailbox final : public Executor {
 public:
  /// Errors: those of eventfd(2).
  static Result<Mailbox> create();

  Mailbox(Mailbox&& other) noexcept;
  Mailbox& operator=(Mailbox&&) = delete;

  void post(Task task) override;

  /// Makes wait_fd() readable, with or without a task. Any thread; takes no lock.
  void rouse();

  /// Runs everything posted before the call; returns how many tasks ran. Owner's thread.
  std::size_t drain();

  /// Readable while something waits.
  [[nodiscard]] int wait_fd() const { return event_.get(); }

 private:
  explicit Mailbox(UniqueFd event) : event_(std::move(event)) {}

  UniqueFd event_;
  std::mutex mutex_;
  std::vector<Task> waiting_;
  std::vector<Task> running_;
};

}  // namespace rnbd
