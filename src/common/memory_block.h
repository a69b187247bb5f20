// SPDX-License-Identifier: Apache-2.0
// Page-aligned memory of its own mapping: what adapters and disks read and write directly. Zeroed,
// and given back to the system when it goes.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <sys/mman.h>

#include "common/result.h"

namespace rnbd {

class MemoryBlock {
 public:
  MemoryBlock() = default;

  /// Errors: ENOMEM.
  static Result<MemoryBlock> map(std::size_t bytes) {
    void* address =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) return fail(errno, fmt::format("cannot map {} bytes", bytes));
    // A child of fork() must not take pages away from an adapter that writes into them.
    ::madvise(address, bytes, MADV_DONTFORK);
    return MemoryBlock({static_cast<std::byte*>(address), bytes});
  }

  MemoryBlock(MemoryBlock&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MemoryBlock& operator=(MemoryBlock&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryBlock() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit MemoryBlock(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace rnbd
