// SPDX-License-Identifier: Apache-2.0
// A network in memory: the seam (transport/fabric.h) on one thread, for tests. It moves real bytes,
// enforces keys, bounds, access rights and queue sizes, and does nothing by itself: step() takes
// one step (a request executed, an answer, an event). With a seed the order of steps is drawn at
// random as far as the laws allow; the same seed gives the same run.
//
// Beyond the laws it is as unkind as adapters are:
//  * After a violation nobody is told until one side calls disconnect(); completions tell it.
//  * disconnect() is told to both sides. Work that the peer has executed may complete as Flushed.
//  * Slots of a queue are free again when their completions were polled, not before.
//  * Private data is padded with zeros to InfiniBand's sizes (56, 196, 148).
// It outlives every endpoint, listener, region and window made on it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sim/memory_device.h"
#include "sim/memory_endpoint.h"
#include "sim/network.h"
#include "sim/scheduler.h"
#include "transport/fabric.h"

namespace rnbd::sim {

struct MemoryFabricOptions {
  std::uint64_t seed = 0;  ///< 0: first come, first served
  unsigned adapters = 1;   ///< of each host, unless it says otherwise
  bool windows = true;
  std::uint32_t max_send_work = 16384;
  std::uint32_t max_receive_work = 16384;
};

/// One host's view of the network.
class MemoryHost final : public Host {
 public:
  MemoryHost(MemoryFabric& fabric, unsigned number, unsigned adapters);

  Result<std::unique_ptr<transport::Endpoint>> dial(const transport::Address& source,
                                                    const transport::Address& destination,
                                                    transport::EndpointEvents& events) override;
  Result<std::unique_ptr<transport::Listener>> listen(const transport::Address& address,
                                                      transport::ListenerEvents& events) override;
  void on_link_up(std::function<void()> call) override { on_link_up_ = std::move(call); }
  /// The process that used it ends where it stands: its objects stay, and nobody may touch them
  /// again. The network has new adapters under the old addresses for the next one. `quiet`: peers
  /// are not told, as when the power goes.
  void crash(bool quiet);
  /// As adapters say it.
  void tell_link_up() const {
    if (on_link_up_) on_link_up_();
  }

  using Host::address;
  [[nodiscard]] const std::string& address(std::size_t adapter) const override {
    return adapters_.at(adapter).address;
  }
  [[nodiscard]] std::string holdings() override;
  [[nodiscard]] MemoryDevice& device(std::size_t adapter = 0) {
    return *adapters_.at(adapter).device;
  }

 private:
  friend class MemoryFabric;
  friend class MemoryListener;

  struct Adapter {
    std::string address;
    std::unique_ptr<MemoryDevice> device;
  };

  Result<Adapter*> source_for(const std::string& source, const std::string& destination);
  Adapter* find(const std::string& address);

  MemoryFabric& fabric_;
  [[nodiscard]] std::unique_ptr<MemoryDevice> make_device(std::size_t number) const;

  std::vector<Adapter> adapters_;
  std::vector<std::unique_ptr<MemoryDevice>> abandoned_;  ///< the dead still point to them
  std::vector<class MemoryListener*> listeners_;
  std::function<void()> on_link_up_;
};

class MemoryFabric final : public Network {
 public:
  explicit MemoryFabric(MemoryFabricOptions options = {});
  ~MemoryFabric() override;

  /// The host of that name; made when first asked for. Its adapter i has the address
  /// "ip:10.0.i.N", N counting hosts from 1. With 0 adapters it has no RDMA device.
  MemoryHost& host(const std::string& name, unsigned adapters);
  MemoryHost& host(const std::string& name) override { return host(name, options_.adapters); }

  bool step() override;
  bool rest() override { return false; }
  std::size_t run_until_idle(std::size_t max_steps = 1'000'000);  ///< returns the steps taken

  // Faults. Addresses are adapters', in any order.

  /// Silence: nothing crosses between the two until heal(); nobody is told. What was under way on a
  /// connection that is ended meanwhile arrives after heal() if the other end still takes it, as
  /// packets do that a switch has kept.
  void cut(const std::string& a, const std::string& b);
  /// The same for one direction: what `from` sends is lost, answers to what `to` sends too.
  void cut_one_way(const std::string& from, const std::string& to);
  void heal(const std::string& a, const std::string& b);
  /// What waits for an answer across a cut will not get one: work fails as PeerNotResponding,
  /// connection attempts fail, ends are never told to the far side.
  void run_out_of_retries(const std::string& a, const std::string& b);
  /// The same, of what `near` has sent only.
  void run_out_of_retries_at(const std::string& near, const std::string& far);
  /// Ends every connection between the two, and tells both sides.
  void break_connections(const std::string& a, const std::string& b);
  /// The last connection that `near` has to `far`, if there is one: what it posts is never done,
  /// and nobody is told.
  void stand_still(const std::string& near, const std::string& far);
  /// The next `count` connect requests, whoever makes them, find nobody.
  void refuse_connects(unsigned count) { refusals_ = count; }

  /// How often posted memory was found changed when it was read: always a bug of whoever posted.
  [[nodiscard]] std::uint64_t changed_sources() const { return changed_sources_; }
  [[nodiscard]] std::size_t endpoints() const override { return endpoints_.size(); }

  // For the parts of the fabric.

  /// Endpoints on `device`.
  [[nodiscard]] std::vector<EndpointId> endpoints_on(const MemoryDevice& device) const;

  Scheduler& scheduler() { return scheduler_; }
  KeySource& keys() { return keys_; }
  [[nodiscard]] const MemoryFabricOptions& options() const { return options_; }
  EndpointId add(MemoryEndpoint& endpoint);
  void remove(MemoryEndpoint& endpoint);
  MemoryEndpoint* find(EndpointId id);
  MemoryHost::Adapter* find_adapter(const std::string& address);
  /// Is anything lost between the two?
  [[nodiscard]] bool is_cut(const std::string& a, const std::string& b) const {
    return loses(a, b) || loses(b, a);
  }
  [[nodiscard]] bool loses(const std::string& from, const std::string& to) const {
    return cuts_.contains({from, to});
  }
  void count_changed_source() { ++changed_sources_; }
  /// Keeps work on its way to `far`, with its data, until the line is healed.
  void strand(const std::string& a, const std::string& b, EndpointId far,
              const transport::WorkRequest& work);
  /// Work that arrived late.
  [[nodiscard]] std::uint64_t late_arrivals() const { return late_arrivals_; }
  /// Takes an active endpoint's request to the listener at its destination.
  void request(MemoryEndpoint& from, std::uint16_t port, std::span<const std::byte> data);

 private:
  using Line = std::pair<std::string, std::string>;
  static Line line(const std::string& a, const std::string& b);
  std::vector<EndpointId> endpoints_on(const std::string& a, const std::string& b) const;

  MemoryFabricOptions options_;
  Scheduler scheduler_;
  KeySource keys_;
  std::map<std::string, std::unique_ptr<MemoryHost>> hosts_;
  std::map<EndpointId, MemoryEndpoint*> endpoints_;
  EndpointId last_id_ = 0;
  std::set<Line> cuts_;  ///< from and to

  struct Stranded {
    EndpointId far = 0;
    transport::WorkRequest work;
    std::vector<std::byte> data;
  };
  std::multimap<Line, Stranded> stranded_;
  std::uint64_t late_arrivals_ = 0;
  unsigned refusals_ = 0;
  std::uint64_t changed_sources_ = 0;
};

}  // namespace rnbd::sim
