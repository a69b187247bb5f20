// SPDX-License-Identifier: Apache-2.0
#include "server/drain.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

namespace rnbd::server {

void Drain::begin(const std::string& session, const std::vector<Device>& open) {
  if (session.empty()) {
    all_ = true;
  } else {
    sessions_.insert(session);
  }
  for (const Device& device : open) {
    if (covers(device.first)) was_open_.insert(device);
  }
}

Status Drain::end(const std::string& session) {
  if (session.empty()) {
    all_ = false;
    sessions_.clear();
    was_open_.clear();
    return {};
  }
  if (all_) {
    return fail(EINVAL, fmt::format("all sessions are drained, not only {}\n"
                                    "rnbd-server drain --off ends that",
                                    session));
  }
  finish(session);
  sessions_.erase(session);
  return {};
}

void Drain::finish(const std::string& session) {
  std::erase_if(was_open_,
                [&](const Device& one) { return session.empty() || one.first == session; });
}

bool Drain::covers(std::string_view session) const { return all_ || sessions_.contains(session); }

bool Drain::was_open(std::string_view session, std::string_view name) const {
  return was_open_.contains(Device(session, name));
}

bool Drain::may_open(std::string_view session, std::string_view name) const {
  return !covers(session) || was_open(session, name);
}

bool Drain::may_return(std::string_view session) const {
  return !covers(session) ||
         std::ranges::any_of(was_open_, [&](const Device& one) { return one.first == session; });
}

std::unexpected<Error> being_drained() {
  return fail(ESHUTDOWN, "the server is being drained: it takes nothing new");
}

}  // namespace rnbd::server
