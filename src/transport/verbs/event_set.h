// SPDX-License-Identifier: Apache-2.0
// Several descriptors behind one: what the control thread watches. Control thread. What is watched
// lives as long as the set, so that an event is never told to something gone.
#pragma once

#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::transport::verbs {

/// So many a source reads at once, before the others have their turn.
inline constexpr int kEventsARound = 64;

/// Has a non-blocking descriptor to read from.
class EventSource {
 public:
  virtual ~EventSource() = default;
  /// Reads what is there, a bounded amount; called again while something is left.
  virtual void on_readable() = 0;
};

class EventSet {
 public:
  /// Errors: those of epoll_create1(2).
  static Result<EventSet> create();

  Status watch(int fd, EventSource& source);
  void forget(int fd);

  /// Readable while a source is.
  [[nodiscard]] int fd() const { return epoll_.get(); }

  /// One round over the sources that are readable. Never blocks.
  void process();

 private:
  explicit EventSet(UniqueFd epoll) : epoll_(std::move(epoll)) {}

  UniqueFd epoll_;
};

}  // namespace rnbd::transport::verbs
