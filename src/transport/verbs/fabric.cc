// SPDX-License-Identifier: Apache-2.0
// The fabric (fabric.h): reads addresses, the rest is Core's, VerbsEndpoint's and VerbsListener's.
#include "transport/verbs/fabric.h"

#include <cerrno>

#include <fmt/format.h>
#include <rdma/rdma_cma.h>

#include "transport/verbs/core.h"
#include "transport/verbs/device.h"
#include "transport/verbs/endpoint.h"
#include "transport/verbs/listener.h"

namespace rnbd::transport::verbs {

namespace {

std::string place(const Address& address) {
  const char* hint = address.text.starts_with("gid:") ? " (InfiniBand links only)" : "";
  return fmt::format("{} port {}{}", address.text, address.port, hint);
}

constexpr int kTransmissions = 8;  ///< one, and seven repeats

/// As a queue pair has it: 4.096 us times two to the power of this, for each transmission.
std::uint8_t ack_timeout(std::chrono::nanoseconds limit) {
  std::uint8_t timeout = 1;
  while (timeout < 31 &&
         std::chrono::nanoseconds(4096LL << (timeout + 1)) * kTransmissions <= limit)
    ++timeout;
  return timeout;
}

}  // namespace

VerbsFabric::VerbsFabric(std::unique_ptr<Core> core) : core_(std::move(core)) {}

VerbsFabric::~VerbsFabric() = default;

Result<std::unique_ptr<VerbsFabric>> VerbsFabric::create(const VerbsOptions& options) {
  auto core = Core::create(ack_timeout(options.acknowledge_within));
  if (!core) return fail(std::move(core.error()));
  return std::unique_ptr<VerbsFabric>(new VerbsFabric(std::move(*core)));
}

Result<std::vector<Capabilities>> VerbsFabric::devices() {
  const std::unique_ptr<ibv_context*, void (*)(ibv_context**)> all(rdma_get_devices(nullptr),
                                                                   rdma_free_devices);
  std::vector<Capabilities> result;
  for (ibv_context** each = all.get(); each != nullptr && *each != nullptr; ++each) {
    auto capabilities = VerbsDevice::capabilities_of(**each);
    if (!capabilities) return fail(std::move(capabilities.error()));
    result.push_back(std::move(*capabilities));
  }
  return result;
}

Result<std::unique_ptr<Endpoint>> VerbsFabric::dial(const Address& source,
                                                    const Address& destination,
                                                    EndpointEvents& events) {
  auto to = CmAddress::parse(destination);
  if (!to) return fail(std::move(to.error()));
  std::optional<CmAddress> from;
  if (!source.text.empty()) {
    auto parsed = CmAddress::parse(source);
    if (!parsed) return fail(std::move(parsed.error()));
    if (parsed->is_gid() != to->is_gid()) {
      return fail(EINVAL,
                  fmt::format("{} and {} are of different kinds", source.text, destination.text));
    }
    from = *parsed;
  }
  return VerbsEndpoint::dial(*core_, from, *to, place(destination), events);
}

Result<std::unique_ptr<Listener>> VerbsFabric::listen(const Address& address,
                                                      ListenerEvents& events) {
  if (address.text.empty()) return VerbsListener::everywhere(*core_, address.port, events);
  auto parsed = CmAddress::parse(address);
  if (!parsed) return fail(std::move(parsed.error()));
  return VerbsListener::on(*core_, *parsed, place(address), events);
}

void VerbsFabric::on_link_up(std::function<void()> call) {
  core_->connections().on_link_up(std::move(call));
}

int VerbsFabric::event_fd() const { return core_->events().fd(); }

void VerbsFabric::process_events() { core_->events().process(); }

}  // namespace rnbd::transport::verbs
