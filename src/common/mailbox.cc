// SPDX-License-Identifier: Apache-2.0
#include "common/mailbox.h"

#include <cerrno>
#include <cstdint>

#include <sys/eventfd.h>

namespace rnbd {

Result<Mailbox> Mailbox::create() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail(errno, "cannot create an eventfd");
  return Mailbox(std::move(event));
}

Mailbox::Mailbox(Mailbox&& other) noexcept
    : event_(std::move(other.event_)), waiting_(std::move(other.waiting_)) {}

void Mailbox::post(Task task) {
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    first = waiting_.empty();
    waiting_.push_back(std::move(task));
  }
  if (first) rouse();
}

void Mailbox::rouse() {
  const std::uint64_t one = 1;
  // Cannot fail for want of room: the counter is reset by every drain.
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

std::size_t Mailbox::drain() {
  std::uint64_t count = 0;
  if (::read(event_.get(), &count, sizeof count) < 0) return 0;  // nothing was posted
  {
    std::lock_guard lock(mutex_);
    running_.swap(waiting_);
  }
  for (Task& task : running_) task();
  const std::size_t ran = running_.size();
  running_.clear();
  return ran;
}

}  // namespace rnbd
