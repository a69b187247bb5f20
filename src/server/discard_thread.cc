// SPDX-License-Identifier: Apache-2.0
#include "server/discard_thread.h"

#include <array>
#include <cerrno>
#include <pthread.h>

#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <system_error>

#include "common/assert.h"

namespace rnbd::server {

void DiscardThread::List::push(DiscardJob& job) {
  job.next = nullptr;
  *(last_ == nullptr ? &first_ : &last_->next) = &job;
  last_ = &job;
}

DiscardJob* DiscardThread::List::pop() {
  DiscardJob* job = first_;
  if (job == nullptr) return nullptr;
  first_ = job->next;
  if (first_ == nullptr) last_ = nullptr;
  return job;
}

DiscardJob* DiscardThread::List::take_all() {
  last_ = nullptr;
  return std::exchange(first_, nullptr);
}

Result<std::unique_ptr<DiscardThread>> DiscardThread::start() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  if (!event) return fail(errno, "cannot create an eventfd");
  std::unique_ptr<DiscardThread> self(new DiscardThread(std::move(event)));
  try {
    self->thread_ = std::thread([&thread = *self] { thread.run(); });
  } catch (const std::system_error& error) {
    return fail(error.code().value(), "cannot start a thread for discards");
  }
  return self;
}

DiscardThread::~DiscardThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

void DiscardThread::submit(DiscardJob& job) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push(job);
  }
  work_.notify_one();
}

DiscardJob* DiscardThread::take_done() {
  const std::lock_guard lock(mutex_);
  return done_.take_all();
}

void DiscardThread::run() {
  pthread_setname_np(pthread_self(), "rnbd-discard");
  std::unique_lock lock(mutex_);
  for (;;) {
    if (DiscardJob* job = waiting_.pop(); job != nullptr) {
      lock.unlock();
      const std::array<std::uint64_t, 2> range = {job->offset, job->length};
      job->error = ::ioctl(job->fd, BLKDISCARD, range.data()) == 0 ? 0 : errno;
      lock.lock();
      finish(*job);
    } else if (stopping_) {
      return;
    } else {
      work_.wait(lock);
    }
  }
}

void DiscardThread::finish(DiscardJob& job) {
  done_.push(job);
  // Cannot block: that takes 2^64 - 1 jobs nobody has fetched.
  RNBD_ASSERT(::eventfd_write(event_.get(), 1) == 0);
}

}  // namespace rnbd::server
