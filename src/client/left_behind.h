// SPDX-License-Identifier: Apache-2.0
// The descriptors that a process before this one left, sorted out. By name: d7 is the memory file
// of a device, d7.0, d7.1 … are our ends of its sockets, m3 is the memory file of a session's
// buffers. Control thread, when the daemon starts.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "client/device_file.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::client {

/// Under which our end of a socket is kept; the device's memory file is under `device` itself.
std::string socket_name(const std::string& device, std::size_t number);

struct LeftDevice {
  std::string name;
  DeviceFile file;
  DeviceRecord record;
  std::vector<UniqueFd> sockets;
};

struct LeftBehind {
  std::vector<LeftDevice> devices;
  std::map<std::string, UniqueFd> memories;
  std::vector<LeftDevice> unfinished;  ///< of a map that was cut short: not all is there
  std::vector<std::string> useless;    ///< belongs to nothing
  unsigned highest = 0;                ///< number in a name
};

/// Errors: EPROTO: what is here is another version's, or makes no sense. Nothing was touched then.
Result<LeftBehind> sort_out(std::map<std::string, UniqueFd> descriptors);

/// What a session needs of the devices that it had: which permits hold data. Brings the journals to
/// rest. Errors: EPROTO.
Result<std::vector<rtrs::PermitId>> held_permits(const DeviceFile& file,
                                                 const rtrs::ServerParameters& parameters);

}  // namespace rnbd::client
