// SPDX-License-Identifier: Apache-2.0
// See memory_fabric.h.
#include "sim/memory_fabric.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>

#include <fmt/format.h>

#include "common/assert.h"

namespace rnbd::sim {

namespace {

bool is_address(const std::string& text) {
  std::array<std::byte, sizeof(in6_addr)> parsed;
  const auto parses = [&](int family, const std::string& address) {
    return ::inet_pton(family, address.c_str(), parsed.data()) == 1;
  };
  if (text.starts_with("gid:")) return parses(AF_INET6, text.substr(4));
  if (!text.starts_with("ip:")) return false;
  const std::string ip = text.substr(3);
  if (ip.starts_with('[') && ip.ends_with(']'))
    return parses(AF_INET6, ip.substr(1, ip.size() - 2));
  return parses(AF_INET, ip);
}

std::string subnet(const std::string& address) { return address.substr(0, address.rfind('.')); }

}  // namespace

/// Takes the connect requests to one address and port of a host until it is destroyed.
class MemoryListener final : public transport::Listener {
 public:
  MemoryListener(MemoryHost& host, transport::Address address, transport::ListenerEvents& events)
      : host_(host), address_(std::move(address)), events_(events) {
    host_.listeners_.push_back(this);
  }
  ~MemoryListener() override { std::erase(host_.listeners_, this); }

  [[nodiscard]] bool takes(const std::string& address, std::uint16_t port) const {
    return port == address_.port && (address_.text.empty() || address_.text == address);
  }
  [[nodiscard]] bool collides(const transport::Address& other) const {
    return takes(other.text, other.port) || (other.text.empty() && other.port == address_.port);
  }
  transport::ListenerEvents& events() { return events_; }

 private:
  MemoryHost& host_;
  transport::Address address_;
  transport::ListenerEvents& events_;
};

MemoryHost::MemoryHost(MemoryFabric& fabric, unsigned number, unsigned adapters) : fabric_(fabric) {
  for (unsigned i = 0; i < adapters; ++i) {
    adapters_.push_back({fmt::format("ip:10.0.{}.{}", i, number), make_device(i)});
  }
}

std::unique_ptr<MemoryDevice> MemoryHost::make_device(std::size_t number) const {
  const MemoryFabricOptions& options = fabric_.options();
  return std::make_unique<MemoryDevice>(
      fabric_.scheduler(), fabric_.keys(),
      transport::Capabilities{.device = fmt::format("mem{}", number),
                              .max_send_work = options.max_send_work,
                              .max_receive_work = options.max_receive_work,
                              .windows = options.windows});
}

void MemoryHost::crash(bool quiet) {
  listeners_.clear();
  on_link_up_ = nullptr;
  for (std::size_t i = 0; i < adapters_.size(); ++i) {
    for (const EndpointId id : fabric_.endpoints_on(*adapters_[i].device)) {
      fabric_.find(id)->die(quiet);
    }
    adapters_[i].device->abandon();
    abandoned_.push_back(std::exchange(adapters_[i].device, make_device(i)));
  }
}

Result<std::unique_ptr<transport::Endpoint>> MemoryHost::dial(const transport::Address& source,
                                                              const transport::Address& destination,
                                                              transport::EndpointEvents& events) {
  if (adapters_.empty()) return fail(ENODEV, "this host has no RDMA device");
  if (!is_address(destination.text)) {
    return fail(EINVAL, fmt::format("\"{}\" is not an address", destination.text));
  }
  const auto adapter = source_for(source.text, destination.text);
  if (!adapter) return fail(adapter.error());
  std::optional<Error> failure;
  if (fabric_.find_adapter(destination.text) == nullptr) {
    failure = Error{EHOSTUNREACH, fmt::format("cannot resolve {}", destination.text)};
  }
  auto endpoint = std::make_unique<MemoryEndpoint>(fabric_, *(*adapter)->device,
                                                   (*adapter)->address, destination, failure);
  endpoint->set_events(events);
  return endpoint;
}

Result<MemoryHost::Adapter*> MemoryHost::source_for(const std::string& source,
                                                    const std::string& destination) {
  if (source.empty()) {
    for (Adapter& adapter : adapters_) {
      if (subnet(adapter.address) == subnet(destination)) return &adapter;
    }
    return &adapters_.front();
  }
  if (!is_address(source)) return fail(EINVAL, fmt::format("\"{}\" is not an address", source));
  if (Adapter* const adapter = find(source)) return adapter;
  return fail(EADDRNOTAVAIL, fmt::format("{} is not an address of this host", source));
}

Result<std::unique_ptr<transport::Listener>> MemoryHost::listen(const transport::Address& address,
                                                                transport::ListenerEvents& events) {
  if (adapters_.empty()) return fail(ENODEV, "this host has no RDMA device");
  if (!address.text.empty() && !is_address(address.text)) {
    return fail(EINVAL, fmt::format("\"{}\" is not an address", address.text));
  }
  if (!address.text.empty() && find(address.text) == nullptr) {
    return fail(EADDRNOTAVAIL, fmt::format("{} is not an address of this host", address.text));
  }
  if (std::ranges::any_of(listeners_,
                          [&](const auto* other) { return other->collides(address); })) {
    return fail(EADDRINUSE, fmt::format("cannot listen on port {}", address.port));
  }
  return std::make_unique<MemoryListener>(*this, address, events);
}

std::string MemoryHost::holdings() {
  std::size_t bytes = 0;
  std::size_t windows = 0;
  for (const Adapter& adapter : adapters_) {
    bytes += adapter.device->registered_memory();
    windows += adapter.device->windows();
  }
  return fmt::format("{} bytes, {} windows", bytes, windows);
}

MemoryHost::Adapter* MemoryHost::find(const std::string& address) {
  const auto found = std::ranges::find(adapters_, address, &Adapter::address);
  return found == adapters_.end() ? nullptr : &*found;
}

MemoryFabric::MemoryFabric(MemoryFabricOptions options)
    : options_(options), scheduler_(options.seed) {}

MemoryFabric::~MemoryFabric() { RNBD_ASSERT(endpoints_.empty()); }

MemoryHost& MemoryFabric::host(const std::string& name, unsigned adapters) {
  auto& host = hosts_[name];
  if (!host)
    host = std::make_unique<MemoryHost>(*this, static_cast<unsigned>(hosts_.size()), adapters);
  return *host;
}

bool MemoryFabric::step() { return scheduler_.step(); }

std::size_t MemoryFabric::run_until_idle(std::size_t max_steps) {
  std::size_t steps = 0;
  while (steps < max_steps && step()) ++steps;
  return steps;
}

void MemoryFabric::cut(const std::string& a, const std::string& b) {
  cut_one_way(a, b);
  cut_one_way(b, a);
}

void MemoryFabric::cut_one_way(const std::string& from, const std::string& to) {
  cuts_.emplace(from, to);
}

void MemoryFabric::strand(const std::string& a, const std::string& b, EndpointId far,
                          const transport::WorkRequest& work) {
  const std::span data(work.source.address, work.source.length);
  stranded_.emplace(line(a, b), Stranded{far, work, {data.begin(), data.end()}});
}

void MemoryFabric::heal(const std::string& a, const std::string& b) {
  cuts_.erase({a, b});
  cuts_.erase({b, a});
  const auto [first, last] = stranded_.equal_range(line(a, b));
  for (auto at = first; at != last; ++at) {
    Stranded& late = at->second;
    late.work.source.address = late.data.data();
    if (MemoryEndpoint* const endpoint = find(late.far)) {
      endpoint->arrive_late(late.work);
      ++late_arrivals_;
    }
  }
  stranded_.erase(first, last);
  for (const EndpointId id : endpoints_on(a, b)) find(id)->wake();
}

void MemoryFabric::run_out_of_retries(const std::string& a, const std::string& b) {
  run_out_of_retries_at(a, b);
  run_out_of_retries_at(b, a);
}

void MemoryFabric::run_out_of_retries_at(const std::string& near, const std::string& far) {
  RNBD_ASSERT(is_cut(near, far));
  for (const EndpointId id : endpoints_on(near, far)) {
    MemoryEndpoint& endpoint = *find(id);
    if (endpoint.local_address() == near) endpoint.give_up();
  }
}

void MemoryFabric::stand_still(const std::string& near, const std::string& far) {
  MemoryEndpoint* last = nullptr;
  for (const EndpointId id : endpoints_on(near, far)) {
    if (find(id)->local_address() == near) last = find(id);
  }
  if (last != nullptr) last->stand_still();
}

void MemoryFabric::break_connections(const std::string& a, const std::string& b) {
  for (const EndpointId id : endpoints_on(a, b)) find(id)->kill("the network broke");
}

EndpointId MemoryFabric::add(MemoryEndpoint& endpoint) {
  endpoints_[++last_id_] = &endpoint;
  return last_id_;
}

void MemoryFabric::remove(MemoryEndpoint& endpoint) { endpoints_.erase(endpoint.id()); }

MemoryEndpoint* MemoryFabric::find(EndpointId id) {
  const auto found = endpoints_.find(id);
  return found == endpoints_.end() ? nullptr : found->second;
}

MemoryHost::Adapter* MemoryFabric::find_adapter(const std::string& address) {
  for (const auto& [name, host] : hosts_) {
    if (auto* const adapter = host->find(address)) return adapter;
  }
  return nullptr;
}

void MemoryFabric::request(MemoryEndpoint& from, std::uint16_t port,
                           std::span<const std::byte> data) {
  const std::string address = from.peer_address();
  for (const auto& [name, host] : hosts_) {
    MemoryHost::Adapter* const adapter = host->find(address);
    if (adapter == nullptr || refusals_ > 0) continue;
    const auto listener = std::ranges::find_if(
        host->listeners_, [&](const auto* candidate) { return candidate->takes(address, port); });
    if (listener == host->listeners_.end()) continue;
    auto passive = std::make_unique<MemoryEndpoint>(*this, *adapter->device, address, from);
    from.answer_with(passive->id());
    return (*listener)->events().on_connect_request(std::move(passive), data);
  }
  if (refusals_ > 0) --refusals_;
  from.refuse({ECONNREFUSED, fmt::format("nobody listens on {} port {}", address, port)});
}

MemoryFabric::Line MemoryFabric::line(const std::string& a, const std::string& b) {
  return std::minmax(a, b);
}

std::vector<EndpointId> MemoryFabric::endpoints_on(const MemoryDevice& device) const {
  std::vector<EndpointId> result;
  for (const auto& [id, endpoint] : endpoints_) {
    if (&endpoint->device() == &device) result.push_back(id);
  }
  return result;
}

std::vector<EndpointId> MemoryFabric::endpoints_on(const std::string& a,
                                                   const std::string& b) const {
  std::vector<EndpointId> result;
  for (const auto& [id, endpoint] : endpoints_) {
    if (line(endpoint->local_address(), endpoint->peer_address()) == line(a, b)) {
      result.push_back(id);
    }
  }
  return result;
}

}  // namespace rnbd::sim
