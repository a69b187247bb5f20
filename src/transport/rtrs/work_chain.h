// SPDX-License-Identifier: Apache-2.0
// The send queue of one connection, as its worker sees it: work is collected into one chain, posted
// once a round, and counted until the fabric has done with it. The only place where work requests
// get their ids and are made signalled.
#pragma once

#include <cstdint>
#include <vector>

#include "common/result.h"
#include "common/tag.h"
#include "transport/fabric.h"

namespace rnbd::rtrs {

/// Kinds of Tag on a connection. A bind of which the caller wants to know is its Own.
enum class WorkTag : std::uint16_t { Plain = 1, Own = 2, Receive = 3, Bind = 4 };

class WorkChain {
 public:
  /// A queue with room for `capacity` work requests.
  explicit WorkChain(std::uint32_t capacity);

  /// Room for so much more work, posted or still in the chain?
  [[nodiscard]] bool has_room(std::uint32_t work) const { return in_use() + work <= capacity_; }

  /// Adds work; has_room() was asked. Of binds, and of what is sent, one in kSignalInterval is
  /// signalled.
  void add(transport::WorkRequest work);

  /// Adds a bind whose completion the caller wants to see, as Tag{Own, …, index}.
  void add_signalled(transport::WorkRequest bind, std::uint32_t index);

  /// Adds work that is signalled, and that nobody waits for.
  void add_mark(transport::WorkRequest work);

  /// Posts the chain. Errors: the endpoint's; the connection is broken then.
  Status flush(transport::Endpoint& endpoint);

  /// A completion of kind Done came. What was added before it has left the queue, but a bind says
  /// nothing of what is sent.
  void on_done(Tag tag);

  [[nodiscard]] bool empty() const { return chain_.empty(); }
  /// flush() will post a bind whose completion is not told, but has to be looked for.
  [[nodiscard]] bool has_signalled_bind() const { return has_signalled_bind_; }
  /// Work of which it is not known that it is done.
  [[nodiscard]] std::uint32_t in_use() const { return sends_.in_use() + binds_.in_use(); }
  /// A count that grows with what is sent and done. Binds may be done although nothing else is.
  [[nodiscard]] std::uint32_t sends_done() const { return sends_.done; }

 private:
  /// What completes in its own order. Running counts, wrapping.
  struct Lane {
    std::uint32_t added = 0;
    std::uint32_t done = 0;
    std::uint32_t unsignalled = 0;
    [[nodiscard]] std::uint32_t in_use() const { return added - done; }
    [[nodiscard]] bool signal_is_due() const;
    void take(bool signalled);
    void finish(std::uint16_t generation);
  };
  void push(transport::WorkRequest work, Tag tag, bool signalled);
  void push_send(transport::WorkRequest work, bool signalled);
  void push_bind(transport::WorkRequest bind, WorkTag kind, std::uint32_t index, bool signalled);

  std::uint32_t capacity_;
  Lane sends_;
  Lane binds_;
  bool has_signalled_bind_ = false;
  std::vector<transport::WorkRequest> chain_;
};

}  // namespace rnbd::rtrs
