// SPDX-License-Identifier: Apache-2.0
// This host's NBD driver. What blocks (netlink, sysfs, flushes) runs on helper threads, its answer
// on the control thread.
#pragma once

#include "client/nbd_driver.h"
#include "common/control/blocking_pool.h"

namespace rnbd::client {

class KernelNbd final : public NbdDriver {
 public:
  explicit KernelNbd(Executor& control) : blocking_(control) {}

  void attach(NbdDeviceConfig config, std::vector<UniqueFd> sockets, std::uint32_t max_request,
              std::move_only_function<void(Result<std::uint32_t>)> done) override;
  void detach(std::uint32_t index, bool force, std::move_only_function<void(Status)> done) override;
  void resize(std::uint32_t index, std::uint64_t size_bytes, std::string backend,
              std::move_only_function<void(Status)> done) override;
  void detach_leftover(std::optional<std::uint32_t> index, std::string backend,
                       std::move_only_function<void(Status)> done) override;

 private:
  BlockingPool blocking_;
};

}  // namespace rnbd::client
