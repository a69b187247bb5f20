// SPDX-License-Identifier: Apache-2.0
// The network under a bench that turns everything on one thread: the one in memory
// (memory_fabric.h), or real adapters (unit/verbs_network.h). Whoever is written against this runs
// on both.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <string>

#include "transport/fabric.h"

namespace rnbd::sim {

class ManualContext;

/// One host's view of it.
class Host : public transport::Fabric {
 public:
  /// "ip:10.0.0.1": where the others reach its n-th adapter. Only adapters it has.
  [[nodiscard]] virtual const std::string& address(std::size_t adapter) const = 0;
  [[nodiscard]] const std::string& address() const { return address(0); }
  /// What its adapters hold for it, in words; empty if nobody counts.
  [[nodiscard]] virtual std::string holdings() = 0;
};

class Network {
 public:
  virtual ~Network() = default;

  /// The host of that name; made when first asked for.
  virtual Host& host(const std::string& name) = 0;
  /// Lets something happen. False: there was nothing to do.
  virtual bool step() = 0;
  /// Nobody has anything to do: waits a moment for what comes by itself. False: nothing does.
  virtual bool rest() = 0;
  /// Endpoints that exist, as far as they are counted.
  [[nodiscard]] virtual std::size_t endpoints() const = 0;
};

/// Turns the contexts and the network until `done` holds. False if it still does not after
/// `max_rounds`, when nobody has anything left to do, or when nothing has come for 20 s.
bool run_until(const std::function<bool()>& done, std::initializer_list<ManualContext*> contexts,
               Network& network, std::size_t max_rounds = 1'000'000);

/// Turns them, and `poll` (false: nothing to do), until nobody has anything left to do; where
/// things come by themselves, until nothing has come for a while. False if that is not so after
/// `max_rounds`.
bool run_until_idle(std::initializer_list<ManualContext*> contexts, Network& network,
                    const std::function<bool()>& poll = {}, std::size_t max_rounds = 1'000'000);

}  // namespace rnbd::sim
