// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/work_chain.h"

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::rtrs {

using transport::WorkKind;
using transport::WorkRequest;

bool WorkChain::Lane::signal_is_due() const { return unsignalled + 1 >= limits::kSignalInterval; }

void WorkChain::Lane::take(bool signalled) {
  ++added;
  unsignalled = signalled ? 0 : unsignalled + 1;
}

void WorkChain::Lane::finish(std::uint16_t generation) {
  const auto news = static_cast<std::uint16_t>(generation - static_cast<std::uint16_t>(done));
  if (news <= in_use()) done += news;  // or it is known already
}

WorkChain::WorkChain(std::uint32_t capacity) : capacity_(capacity) {
  // A full queue holds at least one signalled request, which frees it; tags count modulo 2^16.
  RNBD_ASSERT(capacity > limits::kSignalInterval && capacity < (1U << 16));
  chain_.reserve(capacity);
}

void WorkChain::add(WorkRequest work) {
  if (work.kind == WorkKind::BindWindow) {
    push_bind(work, WorkTag::Bind, 0, binds_.signal_is_due());
  } else {
    push_send(work, sends_.signal_is_due());
  }
}

void WorkChain::add_signalled(WorkRequest bind, std::uint32_t index) {
  RNBD_ASSERT(bind.kind == WorkKind::BindWindow);
  push_bind(bind, WorkTag::Own, index, true);
}

void WorkChain::add_mark(WorkRequest work) {
  RNBD_ASSERT(work.kind != WorkKind::BindWindow);
  push_send(work, true);
}

void WorkChain::push_send(WorkRequest work, bool signalled) {
  sends_.take(signalled);
  // The binds in front of it are done before it is.
  push(work,
       Tag{static_cast<std::uint16_t>(WorkTag::Plain), static_cast<std::uint16_t>(sends_.added),
           binds_.added},
       signalled);
}

void WorkChain::push_bind(WorkRequest bind, WorkTag kind, std::uint32_t index, bool signalled) {
  binds_.take(signalled);
  has_signalled_bind_ |= signalled;
  push(bind, Tag{static_cast<std::uint16_t>(kind), static_cast<std::uint16_t>(binds_.added), index},
       signalled);
}

void WorkChain::push(WorkRequest work, Tag tag, bool signalled) {
  RNBD_ASSERT(in_use() <= capacity_);
  work.signalled = signalled;
  work.id = tag.pack();
  chain_.push_back(work);
}

Status WorkChain::flush(transport::Endpoint& endpoint) {
  if (chain_.empty()) return {};
  Status posted = endpoint.post(chain_);
  chain_.clear();
  has_signalled_bind_ = false;
  return posted;
}

void WorkChain::on_done(Tag tag) {
  if (tag.kind != static_cast<std::uint16_t>(WorkTag::Plain)) {
    binds_.finish(tag.generation);
    return;
  }
  sends_.finish(tag.generation);
  const bool news = static_cast<std::int32_t>(tag.index - binds_.done) > 0;
  if (news) binds_.done = tag.index;
}

}  // namespace rnbd::rtrs
