// SPDX-License-Identifier: Apache-2.0
// Which addresses of this host lead to an RDMA device: what tests over real verbs connect to.
#pragma once

#include <string>
#include <vector>

#include "transport/fabric.h"

namespace rnbd::contract {

/// Tests listen on it and on the one after it.
inline constexpr std::uint16_t kVerbsPort = 12340;

/// Listens and takes nobody in.
class Nobody final : public transport::ListenerEvents {
 public:
  void on_connect_request(std::unique_ptr<transport::Endpoint>,
                          std::span<const std::byte>) override {}
};

/// "ip:10.9.0.1", IPv4 first; empty if this host has no RDMA device, or none of its addresses
/// belongs to one.
std::vector<std::string> adapters_addresses(transport::Fabric& fabric);

}  // namespace rnbd::contract
