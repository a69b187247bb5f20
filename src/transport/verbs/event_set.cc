// SPDX-License-Identifier: Apache-2.0
// The control thread's descriptors (event_set.h).
#include "transport/verbs/event_set.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include <sys/epoll.h>

namespace rnbd::transport::verbs {

Result<EventSet> EventSet::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail(errno, "cannot watch RDMA events (epoll_create1)");
  return EventSet(std::move(epoll));
}

Status EventSet::watch(int fd, EventSource& source) {
  epoll_event event{.events = EPOLLIN, .data = {.ptr = &source}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail(errno, "cannot watch RDMA events (epoll_ctl)");
  }
  return {};
}

void EventSet::forget(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void EventSet::process() {
  std::array<epoll_event, 16> ready{};
  const int count =
      ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), /*timeout=*/0);
  for (const auto& each : std::span(ready).first(static_cast<std::size_t>(std::max(count, 0)))) {
    static_cast<EventSource*>(each.data.ptr)->on_readable();
  }
}

}  // namespace rnbd::transport::verbs
