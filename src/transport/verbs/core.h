// SPDX-License-Identifier: Apache-2.0
// What all connections of one VerbsFabric share. Control thread. The fabric owns it; it outlives
// every endpoint and listener.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "transport/verbs/cm.h"
#include "transport/verbs/connections.h"
#include "transport/verbs/device.h"
#include "transport/verbs/event_set.h"
#include "transport/verbs/quiet_ids.h"
#include "transport/verbs/reaper.h"

namespace rnbd::transport::verbs {

class Core {
 public:
  /// Errors: those of epoll_create1(2), eventfd(2) and timerfd_create(2).
  /// `ack_timeout`: as a queue pair has it.
  static Result<std::unique_ptr<Core>> create(std::uint8_t ack_timeout);
  ~Core();

  EventSet& events() { return events_; }
  Connections& connections() { return *connections_; }
  Reaper& reaper() { return reaper_; }
  QuietIds& quiet_ids() { return *quiet_ids_; }
  [[nodiscard]] std::uint8_t ack_timeout() const { return ack_timeout_; }

  /// Opened when first asked for, so that an adapter may appear after the program has started.
  /// Errors: ENODEV, saying how to get an RDMA device.
  Result<CmChannel*> channel();

  /// The one Device of `context`, which is librdmacm's. Errors: those of VerbsDevice::open.
  Result<VerbsDevice*> device(ibv_context& context);

 private:
  Core(EventSet events, std::uint8_t ack_timeout)
      : events_(std::move(events)), ack_timeout_(ack_timeout) {}

  EventSet events_;
  const std::uint8_t ack_timeout_;
  std::unique_ptr<Connections> connections_;
  std::unique_ptr<CmChannel> channel_;
  std::unique_ptr<QuietIds> quiet_ids_;  ///< gone before the channel
  std::vector<std::unique_ptr<VerbsDevice>> devices_;
  Reaper reaper_;  ///< done before the devices die
};

}  // namespace rnbd::transport::verbs
