// SPDX-License-Identifier: Apache-2.0
#include "client/left_behind.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <fmt/format.h>

namespace rnbd::client {
namespace {

/// The N of dN, dN.i and mN; 0 for a name that is none of ours.
unsigned number_of(const std::string& name) {
  unsigned number = 0;
  if (!name.starts_with('d') && !name.starts_with('m')) return 0;
  std::from_chars(name.data() + 1, name.data() + name.size(), number);
  return number;
}

UniqueFd take(std::map<std::string, UniqueFd>& descriptors, const std::string& name) {
  const auto found = descriptors.find(name);
  if (found == descriptors.end()) return {};
  UniqueFd fd = std::move(found->second);
  descriptors.erase(found);
  return fd;
}

Result<LeftDevice> open_device(const std::string& name, UniqueFd fd,
                               std::map<std::string, UniqueFd>& descriptors) {
  auto file = DeviceFile::open(std::move(fd));
  if (!file) return fail(file.error());
  auto record = file->read();
  if (!record) return fail(record.error());
  LeftDevice device{name, std::move(*file), std::move(*record), {}};
  for (std::uint32_t i = 0; i < device.file.queues(); ++i) {
    if (UniqueFd socket = take(descriptors, socket_name(name, i))) {
      device.sockets.push_back(std::move(socket));
    }
  }
  return device;
}

}  // namespace

std::string socket_name(const std::string& device, std::size_t number) {
  return fmt::format("{}.{}", device, number);
}

Result<LeftBehind> sort_out(std::map<std::string, UniqueFd> descriptors) {
  LeftBehind left;
  std::vector<std::string> devices;
  for (const auto& [name, fd] : descriptors) {
    left.highest = std::max(left.highest, number_of(name));
    if (name.starts_with('d') && !name.contains('.')) devices.push_back(name);
  }
  for (const std::string& name : devices) {
    auto device = open_device(name, take(descriptors, name), descriptors);
    if (!device) {
      return fail(device.error().code,
                  fmt::format("device {} was left behind, but {}", name, device.error().message));
    }
    const bool whole = device->record.index && device->sockets.size() == device->file.queues();
    (whole ? left.devices : left.unfinished).push_back(std::move(*device));
  }
  for (auto& [name, fd] : descriptors) {
    const auto uses = [&](const LeftDevice& device) { return device.record.memory == name; };
    if (std::ranges::any_of(left.devices, uses)) {
      left.memories.emplace(name, std::move(fd));
    } else {
      left.useless.push_back(name);
    }
  }
  return left;
}

Result<std::vector<rtrs::PermitId>> held_permits(const DeviceFile& file,
                                                 const rtrs::ServerParameters& parameters) {
  if (file.shape().permits != parameters.queue_depth) {
    return fail(EPROTO, "its journals do not fit its session");
  }
  std::vector<rtrs::PermitId> held;
  for (std::uint32_t i = 0; i < file.queues(); ++i) {
    Journal journal(file.journal(i), file.shape());
    if (auto recovered = journal.recover(); !recovered) return fail(recovered.error());
    std::ranges::copy(journal.permits(), std::back_inserter(held));
  }
  return held;
}

}  // namespace rnbd::client
