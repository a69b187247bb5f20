// SPDX-License-Identifier: Apache-2.0
// Page-aligned memory of its own mapping: what adapters and disks read and write directly. Zeroed,
// and given back to the system when it goes; or that of a file in memory, which stays as long as
// anybody has the file open.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <sys/mman.h>

#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd {

class MemoryBlock {
 public:
  MemoryBlock() = default;

  /// In huge pages where it is long enough and the system has them. Errors: ENOMEM.
  static Result<MemoryBlock> map(std::size_t bytes) {
    auto block = map_pages(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (block) block->want_huge_pages();
    return block;
  }

  /// The first `bytes` of a memory file, which has so many; it may be closed then. Every page is
  /// there before it is used; huge ones as above, where the system has them for files, too
  /// (transparent_hugepage/shmem_enabled). Errors: ENOMEM; those of madvise(2).
  static Result<MemoryBlock> map_file(int file, std::size_t bytes) {
    auto block = map_pages(bytes, MAP_SHARED, file);
    if (!block) return block;
    block->want_huge_pages();
    // EINVAL: not before Linux 5.14, where pages come when they are used.
    if (::madvise(block->bytes_.data(), bytes, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
      return fail(errno, fmt::format("cannot have {} bytes of a memory file", bytes));
    }
    return block;
  }

  /// A new memory file, zeroed; `name` is for people. Errors: those of memfd_create(2).
  static Result<UniqueFd> make_file(const char* name, std::size_t bytes) {
    UniqueFd file(::memfd_create(name, MFD_CLOEXEC));
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
      return fail(errno, fmt::format("cannot make a memory file of {} bytes", bytes));
    }
    return file;
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
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  static Result<MemoryBlock> map_pages(std::size_t bytes, int flags, int file) {
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file, 0);
    if (address == MAP_FAILED) return fail(errno, fmt::format("cannot map {} bytes", bytes));
    // A child of fork() must not take pages away from an adapter that writes into them.
    ::madvise(address, bytes, MADV_DONTFORK);
    // Users' data belongs in no core file; and who waits for a successor waits for the dump.
    ::madvise(address, bytes, MADV_DONTDUMP);
    return MemoryBlock({static_cast<std::byte*>(address), bytes});
  }

  void want_huge_pages() {
    if (bytes_.size() >= kHugePage) ::madvise(bytes_.data(), bytes_.size(), MADV_HUGEPAGE);
  }

  explicit MemoryBlock(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace rnbd
