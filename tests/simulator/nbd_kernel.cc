// SPDX-License-Identifier: Apache-2.0
#include "simulator/nbd_kernel.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "client/nbd_wire.h"

namespace rnbd::simulator {

using client::NbdCommand;

NbdDevice::NbdDevice(World& world, std::uint32_t index, client::NbdDeviceConfig config,
                     std::vector<UniqueFd> sockets, std::uint32_t max_request)
    : world_(world), index_(index), config_(std::move(config)), max_request_(max_request) {
  for (UniqueFd& socket : sockets) {
    sockets_.push_back(std::make_unique<Socket>(world, index, std::move(socket)));
  }
}

void NbdDevice::Socket::on_answered(Tag tag) {
  auto found = waiting.extract(tag);
  Request& request = (*this)[tag];
  const std::vector<std::byte> data = std::move(request.data);
  found.mapped()(static_cast<int>(request.error), request.command == NbdCommand::Read
                                                      ? std::span(data)
                                                      : std::span<const std::byte>());
}

void NbdDevice::submit(DeviceRequest request) {
  if (!connected_ || is_broken()) return request.done(ENODEV, {});
  Socket& socket = *sockets_[world_.below(static_cast<std::uint32_t>(sockets_.size()))];
  const std::uint16_t flags = request.fua ? client::kNbdFua : 0;
  const auto tag =
      socket.send(request.command, flags, request.offset, request.length, std::move(request.data));
  socket.waiting.emplace(tag, std::move(request.done));
  socket.quiet = false;
}

bool NbdDevice::pump() {
  bool moved = false;
  for (const auto& socket : sockets_) {
    if (world_.one_in(4)) {
      socket->send_step = 1 + world_.below(20000);
      socket->receive_step = 1 + world_.below(20000);
    }
    const bool idle = socket->waiting.empty() && socket->all_sent();
    if (!connected_ || idle || socket->quiet || socket->ended()) continue;
    socket->quiet = !socket->pump();
    moved |= !socket->quiet;
  }
  return moved;
}

void NbdDevice::stir() {
  for (const auto& socket : sockets_) socket->quiet = false;
}

void NbdDevice::disconnect() {
  if (!std::exchange(connected_, false)) return;
  for (const auto& socket : sockets_) {
    if (socket->all_sent()) {
      socket->disconnect();
      socket->send_step = SIZE_MAX;
      socket->receive_step = 0;
      socket->pump();
    }
    socket->close();
    for (auto& [tag, done] : std::exchange(socket->waiting, {})) done(ENODEV, {});
  }
}

std::size_t NbdDevice::under_way() const {
  std::size_t sum = 0;
  for (const auto& socket : sockets_) sum += socket->waiting.size();
  return sum;
}

bool NbdDevice::is_broken() const {
  return std::ranges::any_of(sockets_, [](const auto& socket) { return socket->ended(); });
}

template <typename Answer, typename Value>
void NbdKernel::answer(Answer done, Value value) {
  world_.after(
      world_.some_time(std::chrono::milliseconds(20)),
      [this, life = life_,
       shared = std::make_shared<std::pair<Answer, Value>>(std::move(done), std::move(value))] {
        if (life != life_) return;
        daemon_->post([shared] { shared->first(std::move(shared->second)); });
      });
}

void NbdKernel::attach(client::NbdDeviceConfig config, std::vector<UniqueFd> sockets,
                       std::uint32_t max_request,
                       std::move_only_function<void(Result<std::uint32_t>)> done) {
  std::uint32_t index = 0;
  while (devices_.contains(index)) ++index;
  world_.note("nbd{}: attached, {} sockets, {}", index, sockets.size(), config.backend);
  auto& device = devices_[index];
  const std::uint32_t block = config.block_size;
  device = std::make_unique<NbdDevice>(world_, index, std::move(config), std::move(sockets),
                                       max_request);
  // The kernel looks for partitions before the node can be used.
  device->submit({.command = NbdCommand::Read,
                  .length = block,
                  .done = [this, index, life = life_, done = std::move(done)](
                              int, std::span<const std::byte>) mutable {
                    if (life == life_) answer(std::move(done), Result<std::uint32_t>(index));
                  }});
}

void NbdKernel::detach(std::uint32_t index, bool force,
                       std::move_only_function<void(Status)> done) {
  NbdDevice* const device = find(index);
  if (device == nullptr || force) {
    remove(index);
    return answer(std::move(done), Status{});
  }
  if (device->in_use) return answer(std::move(done), Status(fail(EBUSY, "it is in use")));
  device->submit({.command = NbdCommand::Flush,
                  .done = [this, index, life = life_, done = std::move(done)](
                              int error, std::span<const std::byte>) mutable {
                    if (life != life_) return;
                    if (error != 0) return answer(std::move(done), Status(fail(EIO, "flush")));
                    world_.after({}, [this, index] { remove(index); });
                    answer(std::move(done), Status{});
                  }});
}

void NbdKernel::resize(std::uint32_t index, std::uint64_t size_bytes, std::string backend,
                       std::move_only_function<void(Status)> done) {
  NbdDevice* const device = find(index);
  if (device == nullptr || device->config().backend != backend) {
    answer(std::move(done), Status(fail(EINVAL, "no such device")));
    return;
  }
  world_.note("nbd{}: {} bytes, it had {}", index, size_bytes, device->config().size_bytes);
  device->resize(size_bytes);
  answer(std::move(done), Status{});
}

void NbdKernel::detach_leftover(std::optional<std::uint32_t> index, std::string backend,
                                std::move_only_function<void(Status)> done) {
  std::vector<std::uint32_t> gone;
  for (const auto& [number, device] : devices_) {
    const bool asked_for = !index || *index == number;
    if (asked_for && device->config().backend == backend) gone.push_back(number);
  }
  for (const std::uint32_t number : gone) remove(number);
  answer(std::move(done), Status{});
}

void NbdKernel::remove(std::uint32_t index) {
  const auto found = devices_.find(index);
  if (found == devices_.end()) return;
  world_.note("nbd{}: disconnected, {} under way", index, found->second->under_way());
  if (on_gone) on_gone(index);
  found->second->disconnect();
  removed_.push_back(std::move(found->second));
  devices_.erase(found);
}

bool NbdKernel::pump() {
  bool moved = false;
  for (const auto& [index, device] : devices_) moved |= device->pump();
  return moved;
}

void NbdKernel::stir() {
  for (const auto& [index, device] : devices_) device->stir();
}

NbdDevice* NbdKernel::find(std::uint32_t index) {
  const auto found = devices_.find(index);
  return found == devices_.end() ? nullptr : found->second.get();
}

NbdDevice* NbdKernel::find(const std::string& backend) {
  for (const auto& [index, device] : devices_) {
    if (device->config().backend == backend) return device.get();
  }
  return nullptr;
}

void NbdKernel::lose_sockets() {
  while (!devices_.empty()) remove(devices_.begin()->first);
}

}  // namespace rnbd::simulator
