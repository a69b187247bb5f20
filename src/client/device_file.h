// SPDX-License-Identifier: Apache-2.0
// What is left of a device when its process is killed: one memory file with what a successor has to
// know, and the journals of its queues. Control thread, but for the journals, which are the
// queues'.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/journal.h"
#include "client/map_words.h"
#include "common/memory_block.h"
#include "common/rnbd_wire.h"
#include "transport/rtrs/client_session.h"

namespace rnbd::client {

/// A device as a successor needs it.
struct DeviceRecord {
  rtrs::SessionSettings session;      ///< name, addresses and uuids
  rtrs::ServerParameters parameters;  ///< queue_depth and max_io_size
  std::string memory;                 ///< the session's buffers: name of the descriptor
  MapRequest request;
  wire::OpenResponse opened;
  std::optional<std::uint32_t> index;  ///< N of /dev/nbdN; none: was never mapped
};

class DeviceFile {
 public:
  /// `file`: where it shall outlive us; else it is memory like any other. Errors: ENOMEM.
  static Result<DeviceFile> create(std::uint32_t queues, const JournalShape& shape, bool file);

  /// A predecessor's. Errors: EPROTO for what is no such file or of another version.
  static Result<DeviceFile> open(UniqueFd file);

  /// To be kept; -1 without a file.
  [[nodiscard]] int fd() const { return file_.get(); }

  [[nodiscard]] std::uint32_t queues() const;
  [[nodiscard]] JournalShape shape() const;
  [[nodiscard]] std::span<std::byte> journal(std::uint32_t queue) const;

  /// Replaces the record as a whole: who is killed meanwhile leaves the old one. Errors: E2BIG.
  Status write(const DeviceRecord& record);
  /// Errors: EPROTO.
  [[nodiscard]] Result<DeviceRecord> read() const;

 private:
  struct Header;
  DeviceFile(UniqueFd file, MemoryBlock memory);
  [[nodiscard]] Header& header() const;
  [[nodiscard]] std::span<std::byte> text(std::uint32_t which) const;

  UniqueFd file_;
  MemoryBlock memory_;
};

}  // namespace rnbd::client
