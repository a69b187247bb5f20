// SPDX-License-Identifier: Apache-2.0
// The in-memory fabric as the contract's tests want it: a client's host and a server's.
#pragma once

#include "contract/fabric_contract.h"
#include "sim/memory_fabric.h"

namespace rnbd::contract {

class MemoryUnderTest final : public FabricUnderTest {
 public:
  explicit MemoryUnderTest(sim::MemoryFabricOptions options)
      : fabric_(options), client_(fabric_.host("client")), server_(fabric_.host("server")) {}

  transport::Fabric& client() override { return client_; }
  transport::Fabric& server() override { return server_; }
  [[nodiscard]] std::string client_address() const override { return client_.address(); }
  [[nodiscard]] std::string server_address() const override { return server_.address(); }
  void pump() override { fabric_.step(); }
  [[nodiscard]] std::chrono::milliseconds patience() const override {
    return std::chrono::seconds(2);
  }
  void settle() override { fabric_.run_until_idle(); }

  sim::MemoryFabric& network() { return fabric_; }
  sim::MemoryHost& client_host() { return client_; }
  sim::MemoryHost& server_host() { return server_; }

 private:
  sim::MemoryFabric fabric_;
  sim::MemoryHost& client_;
  sim::MemoryHost& server_;
};

}  // namespace rnbd::contract
