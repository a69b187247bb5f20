// SPDX-License-Identifier: Apache-2.0
#include "server/lost_devices.h"

#include "common/limits.h"

namespace rnbd::server {

void LostDevices::add(Device device, TimePoint now) {
  std::erase_if(awaited_, [now](const auto& one) { return one.second.until <= now; });
  if (awaited_.size() >= limits::kMaxLostDevices) return;
  Key key(device.session, device.name);
  awaited_.insert_or_assign(std::move(key), Awaited{std::move(device), now + limits::kKeepMemory});
}

void LostDevices::renew(std::string_view session, std::string_view name, TimePoint now) {
  const auto found = awaited_.find(Key(session, name));
  if (found == awaited_.end() || found->second.until <= now) return;
  found->second.until = now + limits::kKeepMemory;
}

void LostDevices::forget(std::string_view session, std::string_view name) {
  awaited_.erase(Key(session, name));
}

std::vector<LostDevices::Device> LostDevices::list(TimePoint now) const {
  std::vector<Device> devices;
  for (const auto& [key, one] : awaited_) {
    if (one.until > now) devices.push_back(one.device);
  }
  return devices;
}

}  // namespace rnbd::server
