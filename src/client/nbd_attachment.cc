// SPDX-License-Identifier: Apache-2.0
#include "client/nbd_attachment.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <thread>

#include <fmt/format.h>

#include "client/nbd_receivers.h"
#include "client/nbd_sysfs.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kReadyPatience{30};
constexpr seconds kReceiverPatience{5};
constexpr seconds kFreePatience{30};
constexpr milliseconds kForcedPatience{2000};
/// udev and the like look into a device for a moment after it appeared.
constexpr milliseconds kPasserbyPatience{2000};
constexpr milliseconds kAskAgain{50};
constexpr seconds kUdevPatience{5};
/// The clock by which files are stamped stands still for so long.
constexpr milliseconds kFileClockTick{20};

/// Before anything is asked for: it would not be answered.
Status wait_for_receivers(std::uint32_t index, std::size_t sockets) {
  const auto deadline = std::chrono::steady_clock::now() + kReceiverPatience;
  for (;;) {
    const auto running = count_receivers(index);
    if (running.value_or(sockets) >= sockets) return {};
    if (std::chrono::steady_clock::now() > deadline) {
      // One at least is read, always: this kernel's threads have other names.
      if (*running == 0) return {};
      return fail(EAGAIN, fmt::format("the kernel reads {} of the {} sockets of /dev/nbd{}",
                                      *running, sockets, index));
    }
    std::this_thread::sleep_for(kAskAgain);
  }
}

Status settle(const NbdSysfs& sysfs, std::uint32_t max_request,
              std::filesystem::file_time_type connecting) {
  // What is longer would be cut in two by us; and a read must not need more than a queue is sure
  // to get.
  const NbdQueueSettings settings{.max_sectors_kb = max_request / 1024, .scheduler = "none"};
  if (Status applied = sysfs.apply(settings); !applied) return applied;
  if (Status scanned = sysfs.scan_partitions(); !scanned) return scanned;
  // Whoever is told the node may go on with a link.
  const Status dealt_with = sysfs.wait_for_udev(connecting, kUdevPatience);
  if (!dealt_with) log::warn("{}; links to it may come later", dealt_with.error().message);
  return {};
}

Status disconnect(std::uint32_t index) {
  auto netlink = NbdNetlink::open();
  if (!netlink) return fail(netlink.error());
  return netlink->disconnect(index);
}

/// Behind a disconnect there is no way back: a device that somebody still has open is gone all the
/// same.
Status wait_until_free(const NbdSysfs& sysfs, milliseconds patience) {
  if (Status is_free = sysfs.wait_until_free(patience); !is_free) {
    log::warn("{} is disconnected, but still open; it is free when the last user closes it",
              sysfs.node());
  }
  return {};
}

/// A claim that keeps everybody from mounting the device while it goes away.
Result<UniqueFd> claim(const NbdSysfs& sysfs) {
  const auto deadline = std::chrono::steady_clock::now() + kPasserbyPatience;
  for (;;) {
    const auto users = sysfs.find_users();
    if (!users) return fail(users.error());
    if (!users->in_use()) {
      UniqueFd fd(::open(sysfs.node().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
      if (fd) return fd;
      if (errno != EBUSY) return fail(errno, fmt::format("cannot open {}", sysfs.node()));
    }
    const bool passing = users->mounts.empty() && users->swaps.empty() && users->holders.empty();
    if (!passing || std::chrono::steady_clock::now() > deadline) {
      return fail(EBUSY, fmt::format("{} is in use: {}", sysfs.node(), users->describe()));
    }
    std::this_thread::sleep_for(kAskAgain);
  }
}

}  // namespace

// Our copies of the sockets are closed when this returns.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
Result<std::uint32_t> attach_device(NbdDeviceConfig config, std::vector<UniqueFd> sockets,
                                    std::uint32_t max_request) {
  auto netlink = NbdNetlink::open();
  if (!netlink) return fail(netlink.error());
  for (const UniqueFd& socket : sockets) config.sockets.push_back(socket.get());
  const auto connecting = std::filesystem::file_time_type::clock::now() - kFileClockTick;
  auto index = netlink->connect(config);
  if (!index) return index;
  const NbdSysfs sysfs(*index);
  Status settled = sysfs.wait_until_ready(kReadyPatience);
  if (settled) settled = wait_for_receivers(*index, sockets.size());
  if (settled) settled = settle(sysfs, max_request, connecting);
  if (!settled) {
    if (Status undone = netlink->disconnect(*index); !undone) {
      log::error("/dev/nbd{} stays behind: {}", *index, describe(undone.error()));
    } else if (settled.error().code == EAGAIN) {
      // The next attempt may have to be with the same node.
      static_cast<void>(sysfs.wait_until_free(kForcedPatience));
    }
    return fail(settled.error());
  }
  return index;
}

Status detach_device(std::uint32_t index) {
  const NbdSysfs sysfs(index);
  auto held = claim(sysfs);
  if (!held) return fail(held.error());
  // A disconnect does not flush.
  if (::fsync(held->get()) != 0) {
    return fail(errno, fmt::format("cannot flush {}; --force gives up what is not on the server",
                                   sysfs.node()));
  }
  if (Status gone = disconnect(index); !gone) return gone;
  held->reset();
  return wait_until_free(sysfs, kFreePatience);
}

Status resize_device(std::uint32_t index, std::uint64_t size_bytes, const std::string& backend) {
  auto netlink = NbdNetlink::open();
  if (!netlink) return fail(netlink.error());
  return netlink->reconfigure(index, {.size_bytes = size_bytes, .backend = backend});
}

Status detach_leftover(std::optional<std::uint32_t> index, const std::string& backend) {
  if (index) {
    // Its node may be somebody else's by now.
    const bool is_left = NbdSysfs(*index).backend().value_or("") == backend;
    return is_left ? detach_device_by_force(*index) : Status{};
  }
  auto netlink = NbdNetlink::open();
  if (!netlink) return fail(netlink.error());
  const auto devices = netlink->status();
  if (!devices) return fail(devices.error());
  for (const NbdDeviceStatus& device : *devices) {
    if (NbdSysfs(device.index).backend() != backend) continue;
    if (Status gone = detach_device_by_force(device.index); !gone) return gone;
  }
  return {};
}

Status detach_device_by_force(std::uint32_t index) {
  if (Status gone = disconnect(index); !gone) return gone;
  return wait_until_free(NbdSysfs(index), kForcedPatience);
}

}  // namespace rnbd::client
