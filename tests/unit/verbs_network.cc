// SPDX-License-Identifier: Apache-2.0
// See verbs_network.h.
#include "unit/verbs_network.h"

#include <chrono>
#include <functional>
#include <poll.h>
#include <stdexcept>
#include <thread>
#include <utility>

#include "contract/own_addresses.h"
#include "transport/verbs/fabric.h"

namespace rnbd::test {

using transport::verbs::VerbsFabric;

namespace {

std::unique_ptr<VerbsFabric> make_fabric() {
  auto made = VerbsFabric::create();
  if (!made) throw std::runtime_error(describe(made.error()));
  return std::move(*made);
}

}  // namespace

class VerbsNetwork::VerbsHost final : public sim::Host {
 public:
  explicit VerbsHost(std::string address) : addresses_{std::move(address)} {}

  Result<std::unique_ptr<transport::Endpoint>> dial(const transport::Address& source,
                                                    const transport::Address& destination,
                                                    transport::EndpointEvents& events) override {
    const transport::Address own{.text = address()};
    return fabric_->dial(source.text.empty() ? own : source, destination, events);
  }
  Result<std::unique_ptr<transport::Listener>> listen(const transport::Address& address,
                                                      transport::ListenerEvents& events) override {
    return fabric_->listen(address, events);
  }
  void on_link_up(std::function<void()> call) override { fabric_->on_link_up(std::move(call)); }
  using sim::Host::address;
  [[nodiscard]] const std::string& address(std::size_t adapter) const override {
    return addresses_.at(adapter);
  }
  [[nodiscard]] std::string holdings() override { return {}; }

  bool step() {
    pollfd watched{.fd = fabric_->event_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&watched, 1, 0) != 1) return false;
    fabric_->process_events();
    return true;
  }

 private:
  std::unique_ptr<VerbsFabric> fabric_ = make_fabric();
  const std::vector<std::string> addresses_;  // one: the others belong to the other hosts
};

bool VerbsNetwork::is_possible() {
  const auto fabric = VerbsFabric::create();
  return fabric && !contract::adapters_addresses(**fabric).empty();
}

VerbsNetwork::VerbsNetwork() : addresses_(contract::adapters_addresses(*make_fabric())) {}

VerbsNetwork::~VerbsNetwork() = default;

sim::Host& VerbsNetwork::host(const std::string& name) {
  auto& host = hosts_[name];
  if (!host)
    host = std::make_unique<VerbsHost>(addresses_[(hosts_.size() - 1) % addresses_.size()]);
  return *host;
}

bool VerbsNetwork::step() {
  bool any = false;
  for (const auto& [name, host] : hosts_) any |= host->step();
  return any;
}

bool VerbsNetwork::rest() {
  // The adapter may be software that needs the processor.
  std::this_thread::sleep_for(std::chrono::microseconds(200));
  return true;
}

}  // namespace rnbd::test
