// SPDX-License-Identifier: Apache-2.0
// The registry of connections (connections.h).
#include "transport/verbs/connections.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "common/assert.h"

namespace rnbd::transport::verbs {

namespace {

/// eventfd and timerfd are read alike: a counter, and empty again.
void drain(int fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto size = ::read(fd, &count, sizeof(count));
}

timespec to_timespec(TimePoint when) {
  const auto since = std::max(when.time_since_epoch(), Duration(1));  // 0 would disarm the timer
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  return {.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds(since - seconds).count()};
}

}  // namespace

Result<std::unique_ptr<Connections>> Connections::create(EventSet& events) {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail(errno, "cannot make a wake-up for the control thread (eventfd)");
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return fail(errno, "cannot make a timer for connections (timerfd_create)");

  std::unique_ptr<Connections> result(new Connections(std::move(wake), std::move(timer)));
  for (const int fd : {result->wake_.get(), result->timer_.get()}) {
    if (auto done = events.watch(fd, *result); !done) return fail(std::move(done.error()));
  }
  return result;
}

void Connections::wake() {
  const std::uint64_t one = 1;
  // The only failure is a full counter, and then it is readable anyway.
  [[maybe_unused]] const auto size = ::write(wake_.get(), &one, sizeof(one));
}

void Connections::reschedule() {
  TimePoint next = kNever;
  for (const Connection* each : all_) next = std::min(next, each->deadline());
  itimerspec when{};
  if (next != kNever) when.it_value = to_timespec(next);
  RNBD_ASSERT(::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr) == 0);
}

void Connections::device_failed(const VerbsDevice& device) {
  for_each([&](Connection& each) { each.on_device_failed(device); });
}

void Connections::port_down(const VerbsDevice& device, int port) {
  for_each([&](Connection& each) { each.on_port_down(device, port); });
}

void Connections::link_up() {
  if (on_link_up_) on_link_up_();
}

void Connections::on_readable() {
  drain(wake_.get());
  drain(timer_.get());
  const TimePoint now = Clock::now();
  for_each([&](Connection& each) { each.on_check(now); });
  reschedule();
}

template <typename Call>
void Connections::for_each(Call call) {
  const std::vector<Connection*> present(all_.begin(), all_.end());
  for (Connection* each : present) {
    if (all_.contains(each)) call(*each);
  }
}

}  // namespace rnbd::transport::verbs
