// SPDX-License-Identifier: Apache-2.0
// Making a device of the kernel's out of sockets, and taking it apart again: the steps that block.
// Helper thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/nbd_netlink.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::client {

/// Connects and waits until the node, and what links udev makes to it, can be used. On an error
/// nothing is left behind. `sockets`: the kernel's ends, which it keeps references of.
/// `max_request`: bytes of one read or write.
Result<std::uint32_t> attach_device(NbdDeviceConfig config, std::vector<UniqueFd> sockets,
                                    std::uint32_t max_request);

/// Flushes and disconnects a device that nobody uses, and waits until its node is free. Errors:
/// EBUSY says who uses it; ETIMEDOUT.
Status detach_device(std::uint32_t index);

/// Disconnects a device whoever uses it. The node is free when the last user has closed it.
Status detach_device_by_force(std::uint32_t index);

/// Gives a connected device another size. Errors: EINVAL (not connected, or another backend).
Status resize_device(std::uint32_t index, std::uint64_t size_bytes, const std::string& backend);

/// Disconnects what a process that is gone had connected with this backend: the device `index`, or,
/// of an attach that was cut short, any. No error if there is none. This process has none yet.
Status detach_leftover(std::optional<std::uint32_t> index, const std::string& backend);

}  // namespace rnbd::client
