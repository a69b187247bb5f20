// SPDX-License-Identifier: Apache-2.0
// Devices that a client relies on and does not have open now: it has lost its server, or the
// administrator has closed them. It asks for them again by name, and must not be led to another
// disk. For a while: a client that lives asks often. Pure; control thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "server/export_path.h"

namespace rnbd::server {

class LostDevices {
 public:
  struct Device {
    std::string session;  ///< its name
    std::string name;     ///< as the client says it
    DiskIdentity disk;
    std::uint64_t mark = 0;  ///< disk_mark()
    std::string path;        ///< of the disk, for people
  };

  /// It is awaited from now on, for limits::kKeepMemory; not if that are too many already.
  void add(Device device, TimePoint now);

  /// Its client has asked for it in vain: it is awaited for so long again. Others are not.
  void renew(std::string_view session, std::string_view name, TimePoint now);

  /// It is open again.
  void forget(std::string_view session, std::string_view name);

  /// Those that are awaited still.
  [[nodiscard]] std::vector<Device> list(TimePoint now) const;

 private:
  struct Awaited {
    Device device;
    TimePoint until;
  };
  using Key = std::pair<std::string, std::string>;  ///< session and name
  std::map<Key, Awaited> awaited_;
};

}  // namespace rnbd::server
