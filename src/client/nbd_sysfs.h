// SPDX-License-Identifier: Apache-2.0
// One /dev/nbdX as the rest of the system sees it: what /sys says and takes, and who uses it. Calls
// may block, some by reading from the device: helper thread only. Holds no descriptor between
// calls.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "common/result.h"

namespace rnbd::client {

/// What is set on a device after it was connected. Empty: left alone.
struct NbdQueueSettings {
  std::optional<std::uint32_t> max_sectors_kb;  ///< longest READ or WRITE
  /// How long the driver waits for an answer before it shuts the socket down and sends the request
  /// once more: the true one, whatever NbdDeviceConfig::timeout_s was.
  std::optional<std::uint32_t> io_timeout_ms;
  std::string scheduler;  ///< "none"
};

/// Who uses a device or one of its partitions.
struct DeviceUse {
  struct Opener {
    pid_t pid = 0;
    std::string name;
  };

  bool claimed = false;              ///< something holds it exclusively; perhaps what is below
  std::vector<std::string> mounts;   ///< where, in our mount namespace
  std::vector<std::string> swaps;    ///< nodes
  std::vector<std::string> holders;  ///< block devices on top: dm-0, md0, loop3
  std::vector<Opener> openers;       ///< processes, we excepted

  [[nodiscard]] bool in_use() const;
  /// "mounted on /mnt; open in fio (pid 812)"; empty if not in use.
  [[nodiscard]] std::string describe() const;
};

class NbdSysfs {
 public:
  /// Where things are; the tests have other places.
  struct Places {
    std::filesystem::path sys_block = "/sys/block";
    std::filesystem::path dev = "/dev";
    std::filesystem::path proc = "/proc";
    std::filesystem::path udev = "/run/udev";
  };

  explicit NbdSysfs(std::uint32_t index) : NbdSysfs(index, Places{}) {}
  NbdSysfs(std::uint32_t index, Places places);

  [[nodiscard]] const std::string& name() const { return name_; }         ///< "nbd0"
  [[nodiscard]] std::string node() const { return places_.dev / name_; }  ///< "/dev/nbd0"

  /// Waits until the device has a size and its node is there. Errors: ETIMEDOUT.
  [[nodiscard]] Status wait_until_ready(std::chrono::milliseconds patience) const;

  /// Waits until udev, if it runs, has dealt with what happened to the device since `since`, and
  /// has nothing else to do: links lead to the device then. Errors: ETIMEDOUT.
  [[nodiscard]] Status wait_for_udev(std::filesystem::file_time_type since,
                                     std::chrono::milliseconds patience) const;

  /// Waits until the driver has let go of a disconnected device, so that it can be connected again.
  /// Whoever has it open delays that. Errors: ETIMEDOUT.
  [[nodiscard]] Status wait_until_free(std::chrono::milliseconds patience) const;

  /// Connected, or on the way to or from it.
  [[nodiscard]] bool connected() const;

  /// What connect() was given, empty if the device is not connected. Errors: ENOENT (no device).
  [[nodiscard]] Result<std::string> backend() const;

  /// Bytes; 0 if the device is not connected. Errors: ENOENT (no device).
  [[nodiscard]] Result<std::uint64_t> size_bytes() const;

  /// Errors: those of writing to the attribute, naming it.
  [[nodiscard]] Status apply(const NbdQueueSettings& settings) const;

  /// Makes the partitions' nodes appear, for systems where nobody opens new devices. Reads from the
  /// device. Errors: those of open(2).
  [[nodiscard]] Status scan_partitions() const;

  /// Opens the device for a moment, which may read from it. Without CAP_SYS_PTRACE other users'
  /// processes stay unseen. Errors: those of open(2), but for EBUSY, which is an answer.
  [[nodiscard]] Result<DeviceUse> find_users() const;

 private:
  /// The disk or a partition.
  struct Part {
    std::string name;    ///< "nbd0p1"
    std::string number;  ///< "43:1"
    dev_t device = 0;
    std::filesystem::path directory;  ///< in /sys
  };

  [[nodiscard]] std::filesystem::path directory() const { return places_.sys_block / name_; }
  [[nodiscard]] Status write(std::string_view attribute, const std::string& value) const;
  [[nodiscard]] bool node_is_there() const;
  [[nodiscard]] std::vector<Part> parts() const;
  void find_mounts(const std::vector<Part>& parts, DeviceUse& use) const;
  void find_swaps(const std::vector<Part>& parts, DeviceUse& use) const;
  void find_holders(const std::vector<Part>& parts, DeviceUse& use) const;
  void find_openers(const std::vector<Part>& parts, DeviceUse& use) const;

  std::string name_;
  Places places_;
};

}  // namespace rnbd::client
