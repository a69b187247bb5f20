// SPDX-License-Identifier: Apache-2.0
#include "client/kernel_nbd.h"

#include <utility>

#include "client/nbd_attachment.h"

namespace rnbd::client {

void KernelNbd::attach(NbdDeviceConfig config, std::vector<UniqueFd> sockets,
                       std::uint32_t max_request,
                       std::move_only_function<void(Result<std::uint32_t>)> done) {
  blocking_.run(
      [config = std::move(config), sockets = std::move(sockets), max_request]() mutable {
        return attach_device(std::move(config), std::move(sockets), max_request);
      },
      std::move(done));
}

void KernelNbd::detach(std::uint32_t index, bool force,
                       std::move_only_function<void(Status)> done) {
  blocking_.run(
      [index, force] { return force ? detach_device_by_force(index) : detach_device(index); },
      std::move(done));
}

void KernelNbd::resize(std::uint32_t index, std::uint64_t size_bytes, std::string backend,
                       std::move_only_function<void(Status)> done) {
  blocking_.run(
      [index, size_bytes, backend = std::move(backend)] {
        return resize_device(index, size_bytes, backend);
      },
      std::move(done));
}

void KernelNbd::detach_leftover(std::optional<std::uint32_t> index, std::string backend,
                                std::move_only_function<void(Status)> done) {
  blocking_.run(
      [index, backend = std::move(backend)] { return client::detach_leftover(index, backend); },
      std::move(done));
}

}  // namespace rnbd::client
