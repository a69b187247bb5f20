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

/// Kinds of Tag on a connection.
enum class WorkTag : std::uint16_t { Plain = 1, Own = 2, Receive = 3 };

class WorkChain {
 public:
  /// A queue with room for `capacity` work requests, a multiple of kSignalInterval at least.
  explicit WorkChain(std::uint32_t capacity);

  /// Room for so much more work, posted or still in the chain?
  [[nodiscard]] bool has_room(std::uint32_t work) const {
    return in_use() + reserved_ + work <= capacity_;
  }

  /// Keeps a place for work that will be added later; has_room() was asked.
  void reserve_one();
  /// add() into a place that was kept.
  void add_reserved(transport::WorkRequest work);

  /// Adds work; has_room() was asked. Signalled every kSignalInterval requests.
  void add(transport::WorkRequest work);

  /// Adds work whose completion the caller wants to see, as Tag{Own, …, index}.
  void add_signalled(transport::WorkRequest work, std::uint32_t index);

  /// Adds work that is signalled, and that nobody waits for.
  void add_mark(transport::WorkRequest work) { push(work, WorkTag::Plain, 0, true); }

  /// Posts the chain. Errors: the endpoint's; the connection is broken then.
  Status flush(transport::Endpoint& endpoint);

  /// A completion of kind Done came: it, and what was added before it, has left the queue.
  void on_done(Tag tag);

  [[nodiscard]] bool empty() const { return chain_.empty(); }
  /// Work of which it is not known that it is done.
  [[nodiscard]] std::uint32_t in_use() const { return added_ - done_; }
  /// A count that grows with what is done.
  [[nodiscard]] std::uint32_t done() const { return done_; }

 private:
  void push(transport::WorkRequest work, WorkTag kind, std::uint32_t index, bool signalled);

  std::uint32_t capacity_;
  std::uint32_t added_ = 0;  ///< running counts, wrapping
  std::uint32_t done_ = 0;
  std::uint32_t unsignalled_ = 0;
  std::uint32_t reserved_ = 0;
  std::vector<transport::WorkRequest> chain_;
};

}  // namespace rnbd::rtrs
