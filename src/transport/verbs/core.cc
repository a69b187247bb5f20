// SPDX-License-Identifier: Apache-2.0
// What connections share (core.h).
#include "transport/verbs/core.h"

#include "common/assert.h"

namespace rnbd::transport::verbs {

Result<std::unique_ptr<Core>> Core::create(std::uint8_t ack_timeout) {
  auto events = EventSet::create();
  if (!events) return fail(std::move(events.error()));
  std::unique_ptr<Core> core(new Core(std::move(*events), ack_timeout));
  auto connections = Connections::create(core->events_);
  if (!connections) return fail(std::move(connections.error()));
  core->connections_ = std::move(*connections);
  core->quiet_ids_ = std::make_unique<QuietIds>(*core->connections_);
  return core;
}

Core::~Core() {
  quiet_ids_.reset();
  RNBD_ASSERT(connections_ == nullptr || connections_->empty());
}

Result<CmChannel*> Core::channel() {
  if (!channel_) {
    auto channel = CmChannel::create(events_);
    if (!channel) return fail(std::move(channel.error()));
    channel_ = std::move(*channel);
  }
  return channel_.get();
}

Result<VerbsDevice*> Core::device(ibv_context& context) {
  for (const auto& each : devices_) {
    if (&each->context() == &context) return each.get();
  }
  auto device = VerbsDevice::open(context, events_, *connections_, reaper_);
  if (!device) return fail(std::move(device.error()));
  devices_.push_back(std::move(*device));
  return devices_.back().get();
}

}  // namespace rnbd::transport::verbs
