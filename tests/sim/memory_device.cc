// SPDX-License-Identifier: Apache-2.0
// See memory_device.h.
#include "sim/memory_device.h"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "common/assert.h"

namespace rnbd::sim {

using transport::RegionUse;

namespace {

/// Whether [address, address + length) lies in `memory`, whatever a peer may have sent as address.
bool inside(std::span<const std::byte> memory, std::uint64_t address, std::uint64_t length) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  return address >= begin && length <= memory.size() && address - begin <= memory.size() - length;
}

}  // namespace

MemoryRegion::MemoryRegion(MemoryDevice& device, std::span<std::byte> memory,
                           std::uint32_t local_key, std::uint32_t remote_key, RegionUse use)
    : device_(device), use_(use) {
  memory_ = memory;
  local_key_ = local_key;
  remote_key_ = remote_key;
}

MemoryRegion::~MemoryRegion() { device_.forget(*this); }

MemoryWindow::~MemoryWindow() {
  device_.unbind(*this);
  --device_.windows_;
}

std::uint32_t MemoryWindow::renew_key() {
  key_ = (key_ & ~0xffU) | ((key_ + 1) & 0xffU);
  return key_;
}

MemoryDevice::MemoryDevice(Scheduler& scheduler, KeySource& keys,
                           transport::Capabilities capabilities)
    : scheduler_(scheduler),
      keys_(keys),
      capabilities_(std::move(capabilities)),
      landing_(Agent::calling<&MemoryDevice::land_one>(scheduler, this)) {}

MemoryDevice::~MemoryDevice() { RNBD_ASSERT(regions_ == 0 && windows_ == 0); }

Result<std::unique_ptr<transport::Region>> MemoryDevice::register_region(
    std::span<std::byte> memory, RegionUse use) {
  if (memory.empty()) return fail(EINVAL, "cannot register an empty region");
  if (memory.size() > limit_ || registered_ > limit_ - memory.size()) {
    return fail(ENOMEM, fmt::format("cannot register {} bytes of memory: RLIMIT_MEMLOCK is {}",
                                    memory.size(), limit_));
  }
  auto region = std::make_unique<MemoryRegion>(*this, memory, keys_.next(), keys_.next(), use);
  registered_ += memory.size();
  ++regions_;
  local_grants_[region->local_key()] = memory;
  if (use == RegionUse::RemoteWrite) remote_grants_[region->remote_key()] = {.memory = memory};
  return region;
}

Result<std::unique_ptr<transport::Window>> MemoryDevice::make_window() {
  if (!capabilities_.windows) {
    return fail(EOPNOTSUPP, fmt::format("{} has no memory windows", capabilities_.device));
  }
  ++windows_;
  return std::make_unique<MemoryWindow>(*this, keys_.next());
}

void MemoryDevice::abandon() {
  land_all();
  local_grants_.clear();
  remote_grants_.clear();
  registered_ = regions_ = windows_ = 0;
}

std::uint32_t MemoryDevice::add_invalidatable_key(transport::Region& region) {
  auto& own = dynamic_cast<MemoryRegion&>(region);
  RNBD_ASSERT(&own.device_ == this && own.use_ == RegionUse::RemoteWrite);
  const std::uint32_t key = keys_.next();
  own.invalidatable_.push_back(key);
  remote_grants_[key] = {.memory = region.memory(), .invalidatable = true};
  return key;
}

bool MemoryDevice::allows_local(std::uint32_t key, const std::byte* address,
                                std::uint32_t length) const {
  if (length == 0) return true;
  const auto grant = local_grants_.find(key);
  return grant != local_grants_.end() &&
         inside(grant->second, reinterpret_cast<std::uintptr_t>(address), length);
}

std::byte* MemoryDevice::remote_target(const transport::RemoteMemory& remote,
                                       std::uint32_t length) const {
  const auto grant = remote_grants_.find(remote.key);
  if (grant == remote_grants_.end()) return nullptr;
  const std::span<std::byte> memory = grant->second.memory;
  if (!inside(memory, remote.address, length)) return nullptr;
  return memory.data() + (remote.address - reinterpret_cast<std::uintptr_t>(memory.data()));
}

void MemoryDevice::write(const void* connection, std::byte* target,
                         std::span<const std::byte> data) {
  if (!scheduler_.seeded()) {
    std::memmove(target, data.data(), data.size());  // both may be of one host
    return;
  }
  in_the_air_.push_back({connection, target, {data.begin(), data.end()}});
  landing_.wake();
}

void MemoryDevice::land_one() {
  if (in_the_air_.empty()) return;
  const auto chosen =
      in_the_air_.begin() + static_cast<std::ptrdiff_t>(scheduler_.pick(in_the_air_.size()));
  std::memcpy(chosen->target, chosen->data.data(), chosen->data.size());
  in_the_air_.erase(chosen);
  if (!in_the_air_.empty()) landing_.wake();
}

void MemoryDevice::land(const void* connection) {
  std::erase_if(in_the_air_, [&](const InTheAir& write) {
    if (write.connection != connection) return false;
    std::memcpy(write.target, write.data.data(), write.data.size());
    return true;
  });
}

void MemoryDevice::land_all() {
  while (!in_the_air_.empty()) land_one();
}

bool MemoryDevice::bind(MemoryWindow& window, std::uint32_t key, transport::Region* region,
                        std::span<const std::byte> memory) {
  auto* const target = dynamic_cast<MemoryRegion*>(region);
  if (!memory.empty()) {
    if (target == nullptr || &target->device_ != this || target->use_ != RegionUse::WindowTarget) {
      return false;
    }
    if (!inside(target->memory(), reinterpret_cast<std::uintptr_t>(memory.data()), memory.size())) {
      return false;
    }
  }
  unbind(window);
  if (memory.empty()) return true;
  const auto offset = static_cast<std::size_t>(memory.data() - target->memory().data());
  remote_grants_[key] = {.memory = target->memory().subspan(offset, memory.size())};
  window.bound_key_ = key;
  window.bound_ = target;
  ++target->windows_;
  return true;
}

void MemoryDevice::unbind(MemoryWindow& window) {
  if (window.bound_ == nullptr) return;
  land_all();  // what was accepted under the key is written before the key is gone
  remote_grants_.erase(window.bound_key_);
  --window.bound_->windows_;
  window.bound_ = nullptr;
}

bool MemoryDevice::invalidate(std::uint32_t key) {
  const auto grant = remote_grants_.find(key);
  if (grant == remote_grants_.end() || !grant->second.invalidatable) return false;
  land_all();
  remote_grants_.erase(grant);
  return true;
}

void MemoryDevice::forget(MemoryRegion& region) {
  RNBD_ASSERT(region.windows_ == 0);  // an adapter refuses to deregister it: EBUSY, and a leak
  land_all();
  local_grants_.erase(region.local_key());
  remote_grants_.erase(region.remote_key());
  for (const std::uint32_t key : region.invalidatable_) remote_grants_.erase(key);
  registered_ -= region.memory().size();
  --regions_;
}

}  // namespace rnbd::sim
