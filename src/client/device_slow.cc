// SPDX-License-Identifier: Apache-2.0
// Device: telling of requests that took long.
#include <algorithm>

#include <fmt/format.h>

#include "client/device.h"
#include "client/path_control.h"

namespace rnbd::client {
namespace {

std::string_view word_for(IoKind kind) {
  switch (kind) {
    case IoKind::Read:
      return "read";
    case IoKind::Write:
      return "write";
    case IoKind::Flush:
      return "flush";
    case IoKind::Discard:
      return "discard";
    case IoKind::ZeroRange:
    case IoKind::ZeroData:
      return "write_zeroes";
  }
  return "write_zeroes";
}

/// "-" if there is no such path (any more).
std::string path_of(rtrs::ClientSession& session, const SlowRequest& request) {
  const auto found = std::ranges::find_if(session.paths(), [&](const auto& path) {
    return request.path && path->index() == *request.path;
  });
  return found == session.paths().end() ? "-" : text_of((*found)->spec().route);
}

}  // namespace

/// On the queue's worker.
void Device::on_slow_request(const SlowRequest& request) {
  if (!slow_.pass()) return;
  control_.post([this, request] { log_slow(request); });
}

void Device::log_slow(const SlowRequest& request) {
  const std::string device = node().empty() ? "-" : node();  // "-": not attached yet
  slow_.tell({.session = session_.name(), .device = device},
             fmt::format("mapping_path={} what={} offset={} length={} total_ms={} queue_ms={} "
                         "wire_ms={} path={} error={}",
                         request_.device_path, word_for(request.kind), request.offset,
                         request.length, in_ms(request.taken), in_ms(request.queued),
                         in_ms(request.taken - request.queued), path_of(session_.rtrs(), request),
                         request.error));
}

}  // namespace rnbd::client
