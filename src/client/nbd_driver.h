// SPDX-License-Identifier: Apache-2.0
// The kernel's NBD driver as the control plane sees it: devices made out of sockets and taken apart
// again. Called on the control thread, which nothing here blocks; answers come there too.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client/nbd_netlink.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::client {

class NbdDriver {
 public:
  virtual ~NbdDriver() = default;

  /// Connects and waits until the node can be used; `done` gets N of /dev/nbdN. On an error nothing
  /// is left behind. `sockets`: the kernel's ends, which it keeps references of. `max_request`:
  /// bytes of one read or write.
  virtual void attach(NbdDeviceConfig config, std::vector<UniqueFd> sockets,
                      std::uint32_t max_request,
                      std::move_only_function<void(Result<std::uint32_t>)> done) = 0;

  /// Flushes and disconnects a device that nobody uses, and waits until its node is free; `force`:
  /// disconnects it whoever uses it. Errors: EBUSY says who uses it; ETIMEDOUT.
  virtual void detach(std::uint32_t index, bool force,
                      std::move_only_function<void(Status)> done) = 0;

  /// Gives a device another size, whoever uses it; the kernel tells udev. Errors: EINVAL (it is not
  /// connected, or has another backend).
  virtual void resize(std::uint32_t index, std::uint64_t size_bytes, std::string backend,
                      std::move_only_function<void(Status)> done) = 0;

  /// Disconnects what a process that is gone had connected with this backend: the device `index`,
  /// or, of an attach that was cut short, any; so nothing is attached before `done`. No error if
  /// there is none.
  virtual void detach_leftover(std::optional<std::uint32_t> index, std::string backend,
                               std::move_only_function<void(Status)> done) = 0;
};

}  // namespace rnbd::client
