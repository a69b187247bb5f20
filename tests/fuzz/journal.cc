// SPDX-License-Identifier: Apache-2.0
// What a process before this one left of a device: any bytes are a journal to go on with, or are
// refused.
#include "client/journal.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <unistd.h>
#include <vector>

#include "client/device_file.h"
#include "common/assert.h"
#include "common/memory_block.h"
#include "fuzz/input.h"

using namespace rnbd;
using namespace rnbd::client;

namespace {

constexpr JournalShape kShape{.requests = 4, .permits = 4};

/// Small numbers are positions and slots, and matter more than others.
void fill(std::span<std::byte> memory, fuzz::Input& input) {
  while (!input.empty()) {
    const std::size_t place = input.number<std::uint16_t>() % memory.size();
    const std::span target = memory.subspan(place);
    const std::vector<std::byte> bytes = input.string();
    std::copy_n(bytes.begin(), std::min(bytes.size(), target.size()), target.begin());
  }
}

void recover(std::span<std::byte> memory) {
  Journal journal(memory, kShape);
  const auto recovered = journal.recover();
  if (!recovered) return;
  for (const std::uint16_t permit : journal.permits()) RNBD_ASSERT(permit < kShape.permits);
  for (const std::uint16_t slot : recovered->open) {
    RNBD_ASSERT(slot < kShape.requests && journal.is_open(slot));
    for (const JournalPiece& piece : journal.pieces(slot)) {
      RNBD_ASSERT(std::uint64_t{piece.offset} + piece.length <= journal.header(slot).length);
    }
  }
  // Who is killed while it recovers leaves it to another one.
  RNBD_ASSERT(journal.recover());
}

/// As the file of a device.
void open_file(std::span<const std::byte> bytes) {
  auto file = MemoryBlock::make_file("fuzz", bytes.size());
  RNBD_ASSERT(file);
  RNBD_ASSERT(::pwrite(file->get(), bytes.data(), bytes.size(), 0) == std::ssize(bytes));
  const auto device = DeviceFile::open(std::move(*file));
  if (device) static_cast<void>(device->read());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const bool as_file = input.number<std::uint8_t>() % 2 == 1;
  const auto memory = *MemoryBlock::map(Journal::bytes(kShape));
  if (as_file) {
    auto device = DeviceFile::create(1, kShape, true);
    RNBD_ASSERT(device && device->write({}));
    std::vector<std::byte> bytes(65536);
    const ssize_t length = ::pread(device->fd(), bytes.data(), bytes.size(), 0);
    RNBD_ASSERT(length > 0);
    bytes.resize(static_cast<std::size_t>(length));
    fill(bytes, input);
    open_file(bytes);
  } else {
    fill(memory.bytes(), input);
    recover(memory.bytes());
  }
  return 0;
}
