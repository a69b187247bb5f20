// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/work_chain.h"

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::rtrs {

WorkChain::WorkChain(std::uint32_t capacity) : capacity_(capacity) {
  // A full queue holds at least one signalled request, which frees it; tags count modulo 2^16.
  RNBD_ASSERT(capacity > limits::kSignalInterval && capacity < (1U << 16));
  chain_.reserve(capacity);
}

void WorkChain::add(transport::WorkRequest work) {
  const bool signalled = ++unsignalled_ >= limits::kSignalInterval;
  push(work, WorkTag::Plain, 0, signalled);
}

void WorkChain::reserve_one() {
  RNBD_ASSERT(has_room(1));
  ++reserved_;
}

void WorkChain::add_reserved(transport::WorkRequest work) {
  RNBD_ASSERT(reserved_ > 0);
  --reserved_;
  add(work);
}

void WorkChain::add_signalled(transport::WorkRequest work, std::uint32_t index) {
  push(work, WorkTag::Own, index, true);
}

void WorkChain::push(transport::WorkRequest work, WorkTag kind, std::uint32_t index,
                     bool signalled) {
  RNBD_ASSERT(has_room(1));
  ++added_;
  if (signalled) unsignalled_ = 0;
  work.signalled = signalled;
  work.id = Tag{static_cast<std::uint16_t>(kind), static_cast<std::uint16_t>(added_), index}.pack();
  chain_.push_back(work);
}

Status WorkChain::flush(transport::Endpoint& endpoint) {
  if (chain_.empty()) return {};
  Status posted = endpoint.post(chain_);
  chain_.clear();
  return posted;
}

void WorkChain::on_done(Tag tag) {
  done_ += static_cast<std::uint16_t>(tag.generation - static_cast<std::uint16_t>(done_));
}

}  // namespace rnbd::rtrs
