// SPDX-License-Identifier: Apache-2.0
// A disk opened for one export: its descriptor and what it can do. Opened and owned by the control
// thread (exports.h); workers only use the descriptor, and it stays open until they have let go.
#pragma once

#include <cstdint>

#include "common/result.h"
#include "common/rnbd_wire.h"
#include "common/unique_fd.h"
#include "server/block_store.h"
#include "server/export_path.h"

namespace rnbd::server {

/// What a client has to know of a disk. Sectors are wire::kSectorSize bytes.
struct DiskLimits {
  std::uint64_t sectors = 0;  ///< whole logical blocks only; what follows them is out of reach
  std::uint32_t logical_block_size = 0;        ///< bytes; offsets and lengths are multiples of it
  std::uint32_t physical_block_size = 0;       ///< bytes
  std::uint32_t max_discard_sectors = 0;       ///< 0: no discards
  std::uint32_t discard_granularity = 0;       ///< bytes
  std::uint32_t discard_alignment = 0;         ///< bytes
  std::uint32_t max_write_zeroes_sectors = 0;  ///< 0: no write zeroes
  std::uint32_t secure_discard_sectors = 0;    ///< always 0: not offered
  /// Both bits, always: a flush or a FUA write costs nothing where the disk has no volatile cache,
  /// and the page cache or the file system in front of it is one.
  std::uint8_t cache_policy = wire::kCacheWriteback | wire::kCacheFua;
  bool rotational = false;
};

class Backend {
 public:
  /// Opens a disk. `io_mode` BlockIo demands direct I/O, FileIo the page cache; ServerDefault is
  /// direct I/O where it works. Errors: those of open(2); EACCES if a block device is read-only and
  /// `writable` was asked for; EINVAL if the disk cannot do `io_mode` or holds no whole block.
  /// Blocks for as long as the disk's driver does.
  static Result<Backend> open(const FoundDisk& disk, bool writable, wire::IoMode io_mode);

  /// Asks how large it is now. True if that is another size than before; one that has shrunk to
  /// nothing keeps its size, and its I/O fails. Errors: those of fstat(2) and BLKGETSIZE64.
  Result<bool> refresh_size();

  [[nodiscard]] const DiskLimits& limits() const { return limits_; }
  [[nodiscard]] wire::IoMode io_mode() const { return io_mode_; }  ///< BlockIo or FileIo
  [[nodiscard]] bool writable() const { return writable_; }
  [[nodiscard]] std::uint64_t size_bytes() const { return limits_.sectors * wire::kSectorSize; }

  /// For stores; without a file slot, which is a worker's own matter.
  [[nodiscard]] StoreTarget target() const {
    return {.fd = fd_.get(),
            .file_slot = kNoSlot,
            .is_block = is_block_,
            .write_through = io_mode_ == wire::IoMode::FileIo};
  }

 private:
  Backend() = default;

  UniqueFd fd_;
  DiskLimits limits_;
  wire::IoMode io_mode_ = wire::IoMode::BlockIo;
  bool writable_ = false;
  bool is_block_ = false;
};

/// Takes a block device for this process alone, as a mount does, until the answer is closed. Other
/// openers that claim nothing are not kept out. Answers no descriptor for a regular file. Errors:
/// EBUSY if it is mounted or otherwise claimed here; those of open(2).
Result<UniqueFd> claim_for_writing(const FoundDisk& disk);

}  // namespace rnbd::server
