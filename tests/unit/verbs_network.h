// SPDX-License-Identifier: Apache-2.0
// The network of a bench (sim/network.h) over this host's own adapter, which talks to itself. Each
// host has its own event channel, protection domain and, as far as there are enough, address. One
// thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sim/network.h"

namespace rnbd::test {

class VerbsNetwork final : public sim::Network {
 public:
  /// Whether this host has an address that leads to an RDMA device.
  [[nodiscard]] static bool is_possible();

  /// Only where it is possible.
  VerbsNetwork();
  ~VerbsNetwork() override;

  sim::Host& host(const std::string& name) override;
  bool step() override;
  bool rest() override;
  [[nodiscard]] std::size_t endpoints() const override { return 0; }  // nobody counts

 private:
  class VerbsHost;

  std::vector<std::string> addresses_;
  std::map<std::string, std::unique_ptr<VerbsHost>> hosts_;
};

}  // namespace rnbd::test
