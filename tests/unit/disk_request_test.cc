// SPDX-License-Identifier: Apache-2.0
// What the server makes of an I/O message: the operation that a store executes, or the errno that
// the client gets. The whole table, for disks of several kinds.
#include "server/disk_request.h"

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace rnbd::server {
namespace {

using Kind = StoreOperation::Kind;
using rtrs::Direction;
using wire::Operation;

constexpr std::uint64_t kSectors = 1000;
constexpr std::uint32_t kMaxDiscard = 64;
constexpr std::uint32_t kMaxZeroes = 128;
constexpr std::uint32_t kFua = wire::kFlagFua;
constexpr std::uint32_t kSync = wire::kFlagSync;

WorkerDevice disk(std::uint32_t block = 512, bool writable = true, bool extras = true) {
  WorkerDevice device;
  device.open = true;
  device.writable = writable;
  device.limits.sectors = kSectors;
  device.limits.logical_block_size = block;
  device.limits.max_discard_sectors = extras ? kMaxDiscard : 0;
  device.limits.max_write_zeroes_sectors = extras ? kMaxZeroes : 0;
  return device;
}

std::array<std::byte, 8192> memory;

struct Ask {
  Operation operation = Operation::Read;
  std::uint64_t sector = 0;
  std::uint32_t size = 0;
  std::uint32_t data = 0;  ///< bytes that the transport carried
  Direction direction = Direction::Read;
  std::uint32_t flags = 0;
};

std::expected<StoreOperation, int> plan(const Ask& ask, const WorkerDevice& device) {
  wire::Io message;
  message.header = wire::header(wire::MessageType::Io);
  message.sector = ask.sector;
  message.size = ask.size;
  message.rw = std::to_underlying(ask.operation) | ask.flags;
  return plan_operation(message, ask.direction, std::span(memory).first(ask.data), device);
}

/// 0 if it is carried out.
int error_of(const Ask& ask, const WorkerDevice& device) {
  const auto planned = plan(ask, device);
  return planned ? 0 : planned.error();
}

Ask read(std::uint64_t sector, std::uint32_t size) { return {Operation::Read, sector, size, size}; }
Ask write(std::uint64_t sector, std::uint32_t size) {
  return {Operation::Write, sector, size, size, Direction::Write};
}
Ask discard(std::uint64_t sector, std::uint32_t sectors) {
  return {Operation::Discard, sector, sectors * 512, 0, Direction::Write};
}
Ask zeroes(std::uint64_t sector, std::uint32_t sectors) {
  return {Operation::WriteZeroes, sector, sectors * 512, 0, Direction::Write};
}

TEST(PlanOperation, KeepsWhatItWasAsked) {
  struct Case {
    Ask ask;
    Kind kind;
    bool fua;
    std::uint64_t offset;
    std::uint32_t length;
    bool data;
  };
  const Ask fua_write{Operation::Write, 8, 4096, 4096, Direction::Write, kSync | kFua};
  const Ask flush{Operation::Flush, 0, 0, 0, Direction::Read, kSync | kFua};
  // A flush as a write without data, and one that carries what no flush needs.
  const Ask empty_write{Operation::Write, 0, 0, 0, Direction::Write, kFua};
  const Ask odd_flush{Operation::Flush, UINT64_MAX, 77, 77, Direction::Write};
  const Ask unknown_flags{Operation::Read, 1, 512, 512, Direction::Read, 0xfffffc00};
  const Case cases[] = {
      {read(0, 512), Kind::Read, false, 0, 512, true},
      {read(kSectors - 16, 8192), Kind::Read, false, (kSectors - 16) * 512, 8192, true},
      {write(3, 1024), Kind::Write, false, 1536, 1024, true},
      {fua_write, Kind::Write, true, 4096, 4096, true},
      {flush, Kind::Flush, false, 0, 0, false},
      {empty_write, Kind::Flush, false, 0, 0, false},
      {odd_flush, Kind::Flush, false, 0, 0, false},
      {discard(100, kMaxDiscard), Kind::Discard, false, 51200, kMaxDiscard * 512, false},
      {zeroes(0, kMaxZeroes), Kind::WriteZeroes, false, 0, kMaxZeroes * 512, false},
      {unknown_flags, Kind::Read, false, 512, 512, true},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(
        fmt::format("operation {} at {}", std::to_underlying(one.ask.operation), one.ask.sector));
    const auto planned = plan(one.ask, disk());
    ASSERT_TRUE(planned) << planned.error();
    EXPECT_EQ(planned->kind, one.kind);
    EXPECT_EQ(planned->fua, one.fua);
    EXPECT_EQ(planned->offset, one.offset);
    EXPECT_EQ(planned->length, one.length);
    EXPECT_EQ(planned->data, one.data ? memory.data() : nullptr);
  }
}

TEST(PlanOperation, RefusesWhatLiesBeyondTheEnd) {
  const std::pair<std::uint64_t, std::uint32_t> ranges[] = {{kSectors, 1},
                                                            {kSectors - 1, 2},
                                                            {kSectors + 1, 1},
                                                            {std::uint64_t{1} << 32, 1},
                                                            {std::uint64_t{1} << 55, 1},
                                                            {UINT64_MAX, 1},
                                                            {UINT64_MAX - 1, 2},
                                                            {UINT64_MAX - 7, 8}};
  for (const auto& [sector, count] : ranges) {
    SCOPED_TRACE(fmt::format("{} sectors at {}", count, sector));
    EXPECT_EQ(error_of(read(sector, count * 512), disk()), EIO);
    EXPECT_EQ(error_of(write(sector, count * 512), disk()), EIO);
    EXPECT_EQ(error_of(discard(sector, count), disk()), EIO);
    EXPECT_EQ(error_of(zeroes(sector, count), disk()), EIO);
  }
}

TEST(PlanOperation, RefusesWhatIsNoWholeBlock) {
  for (const std::uint32_t size : {1U, 511U, 513U, 4095U}) {
    EXPECT_EQ(error_of(read(0, size), disk()), EINVAL) << size;
    EXPECT_EQ(error_of(write(0, size), disk()), EINVAL) << size;
  }
  EXPECT_EQ(error_of(read(0, 0), disk()), EINVAL);
  EXPECT_EQ(error_of(discard(0, 0), disk()), EINVAL);
  EXPECT_EQ(error_of(zeroes(0, 0), disk()), EINVAL);

  const WorkerDevice large = disk(4096);
  EXPECT_EQ(error_of(read(8, 4096), large), 0);
  EXPECT_EQ(error_of(read(8, 512), large), EINVAL);
  EXPECT_EQ(error_of(read(1, 4096), large), EINVAL) << "between two blocks";
  EXPECT_EQ(error_of(write(7, 4096), large), EINVAL);
  EXPECT_EQ(error_of(discard(1, 8), large), EINVAL);
  EXPECT_EQ(error_of(discard(8, 9), large), EINVAL);
  EXPECT_EQ(error_of(zeroes(8, 8), large), 0);
  // An overflow in bytes must not make it look aligned and near.
  EXPECT_EQ(error_of(read(std::uint64_t{1} << 55, 4096), large), EIO);
}

TEST(PlanOperation, RefusesSizesThatTheTransportDidNotCarry) {
  for (const std::uint32_t data : {0U, 512U, 4095U, 4097U, 8192U}) {
    EXPECT_EQ(error_of({Operation::Read, 0, 4096, data, Direction::Read}, disk()), EINVAL) << data;
    EXPECT_EQ(error_of({Operation::Write, 0, 4096, data, Direction::Write}, disk()), EINVAL)
        << data;
  }
  // Taken for the flushes that they would be without data, both would drop it.
  EXPECT_EQ(error_of({Operation::Write, 0, 0, 4096, Direction::Write}, disk()), EINVAL);
  EXPECT_EQ(error_of({Operation::Flush, 0, 0, 4096, Direction::Write}, disk()), EINVAL);
  EXPECT_EQ(error_of({Operation::Discard, 0, 512, 4096, Direction::Write}, disk()), EINVAL);
}

TEST(PlanOperation, RefusesDataThatGoesTheOtherWay) {
  EXPECT_EQ(error_of({Operation::Read, 0, 4096, 4096, Direction::Write}, disk()), EINVAL);
  EXPECT_EQ(error_of({Operation::Write, 0, 4096, 4096, Direction::Read}, disk()), EINVAL);
}

TEST(PlanOperation, RefusesToChangeWhatIsReadOnly) {
  const WorkerDevice device = disk(512, false);
  EXPECT_EQ(error_of(write(0, 512), device), EROFS);
  EXPECT_EQ(error_of(discard(0, 1), device), EROFS);
  EXPECT_EQ(error_of(zeroes(0, 1), device), EROFS);
  EXPECT_EQ(error_of(write(UINT64_MAX, 1), device), EROFS) << "whatever else is wrong";
  EXPECT_EQ(error_of(read(0, 512), device), 0);
  EXPECT_EQ(error_of({.operation = Operation::Flush}, device), 0);
}

TEST(PlanOperation, RefusesWhatTheDiskCannotDo) {
  const WorkerDevice plain = disk(512, true, false);
  EXPECT_EQ(error_of(discard(0, 1), plain), EOPNOTSUPP);
  EXPECT_EQ(error_of(zeroes(0, 1), plain), EOPNOTSUPP);
  EXPECT_EQ(error_of({Operation::SecureErase, 0, 512, 0, Direction::Write}, disk()), EOPNOTSUPP);
  EXPECT_EQ(error_of(discard(0, kMaxDiscard + 1), disk()), EINVAL) << "more than was offered";
  EXPECT_EQ(error_of(zeroes(0, kMaxZeroes + 1), disk()), EINVAL);
}

TEST(PlanOperation, RefusesUnknownOperations) {
  for (const unsigned number : {6U, 7U, 16U, 255U}) {
    const auto operation = static_cast<Operation>(number);
    EXPECT_EQ(error_of({operation, 0, 512, 512, Direction::Read}, disk()), EINVAL) << number;
    EXPECT_EQ(error_of({operation, 0, 512, 512, Direction::Write}, disk()), EINVAL) << number;
    EXPECT_EQ(error_of({operation, 0, 0, 0, Direction::Read}, disk()), EINVAL) << number;
  }
}

}  // namespace
}  // namespace rnbd::server
