// SPDX-License-Identifier: Apache-2.0
// An adapter of the in-memory fabric: regions, windows, and what each key allows. Keys are unique
// in the whole network and local keys are never remote ones, so that every mix-up is refused.
// Owned by its host; outlives everything made on it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <unordered_map>
#include <vector>

#include "sim/scheduler.h"
#include "transport/fabric.h"

namespace rnbd::sim {

class MemoryDevice;

/// Gives out the numbers of keys: an index, and a generation that windows count in the low byte.
class KeySource {
 public:
  std::uint32_t next() { return ++index_ << 8; }

 private:
  std::uint32_t index_ = 0;
};

class MemoryRegion final : public transport::Region {
 public:
  MemoryRegion(MemoryDevice& device, std::span<std::byte> memory, std::uint32_t local_key,
               std::uint32_t remote_key, transport::RegionUse use);
  ~MemoryRegion() override;

 private:
  friend class MemoryDevice;
  MemoryDevice& device_;
  transport::RegionUse use_;
  std::size_t windows_ = 0;                   ///< bound to it
  std::vector<std::uint32_t> invalidatable_;  ///< further keys, see add_invalidatable_key
};

class MemoryWindow final : public transport::Window {
 public:
  MemoryWindow(MemoryDevice& device, std::uint32_t key) : device_(device), key_(key) {}
  ~MemoryWindow() override;
  [[nodiscard]] std::uint32_t key() const override { return key_; }

  /// The key that the bind being posted will create. As on adapters, a key comes back after 256.
  std::uint32_t renew_key();

 private:
  friend class MemoryDevice;
  MemoryDevice& device_;
  std::uint32_t key_;              ///< as of the last bind that was posted
  std::uint32_t bound_key_ = 0;    ///< as of the last bind that was executed
  MemoryRegion* bound_ = nullptr;  ///< null: revoked, or never bound
};

class MemoryDevice final : public transport::Device {
 public:
  MemoryDevice(Scheduler& scheduler, KeySource& keys, transport::Capabilities capabilities);
  ~MemoryDevice() override;

  [[nodiscard]] const transport::Capabilities& capabilities() const override {
    return capabilities_;
  }
  Result<std::unique_ptr<transport::Region>> register_region(std::span<std::byte> memory,
                                                             transport::RegionUse use) override;
  Result<std::unique_ptr<transport::Window>> make_window() override;

  /// Its users' process is no more: no key is good any longer, and nobody gives anything back.
  void abandon();

  // Hooks for tests.

  /// From now on, registering more than `bytes` in all fails with ENOMEM.
  void limit_registered_memory(std::size_t bytes) { limit_ = bytes; }
  [[nodiscard]] std::size_t registered_memory() const { return registered_; }
  [[nodiscard]] std::size_t windows() const { return windows_; }

  /// Called when one of its connections has posted work: what follows from that may happen before
  /// whoever posted it goes on.
  std::function<void()> after_post;

  /// A further key to a RemoteWrite region that a peer may revoke with SendInvalidate, as kernel
  /// clients hand out. Lives until revoked, or as long as the region.
  std::uint32_t add_invalidatable_key(transport::Region& region);

  // For MemoryQueue.

  /// Whether `key` allows the adapter itself to use this memory. Nothing needs no key.
  [[nodiscard]] bool allows_local(std::uint32_t key, const std::byte* address,
                                  std::uint32_t length) const;

  /// The memory a peer's `remote` names, or nullptr if its key does not allow that.
  std::byte* remote_target(const transport::RemoteMemory& remote, std::uint32_t length) const;

  /// Writes a peer's data, at once or, with a seed, some time before land() for that `connection`.
  void write(const void* connection, std::byte* target, std::span<const std::byte> data);
  void land(const void* connection);  ///< everything still in the air on that connection
  void land_all();

  /// False if `region` cannot be bound to, or `memory` is outside of it.
  bool bind(MemoryWindow& window, std::uint32_t key, transport::Region* region,
            std::span<const std::byte> memory);

  /// False if `key` is not one that peers may revoke.
  bool invalidate(std::uint32_t key);

 private:
  friend class MemoryRegion;
  friend class MemoryWindow;

  struct RemoteGrant {
    std::span<std::byte> memory;
    bool invalidatable = false;
  };
  struct InTheAir {
    const void* connection = nullptr;
    std::byte* target = nullptr;
    std::vector<std::byte> data;
  };

  void land_one();
  void unbind(MemoryWindow& window);
  void forget(MemoryRegion& region);

  Scheduler& scheduler_;
  KeySource& keys_;
  transport::Capabilities capabilities_;
  Agent landing_;
  std::unordered_map<std::uint32_t, std::span<std::byte>> local_grants_;
  std::unordered_map<std::uint32_t, RemoteGrant> remote_grants_;
  std::vector<InTheAir> in_the_air_;
  std::size_t limit_ = std::numeric_limits<std::size_t>::max();
  std::size_t registered_ = 0;
  std::size_t regions_ = 0;
  std::size_t windows_ = 0;
};

}  // namespace rnbd::sim
