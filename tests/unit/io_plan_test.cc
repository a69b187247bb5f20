// SPDX-License-Identifier: Apache-2.0
// How NBD requests become RNBD operations, and where they are cut.
#include "client/io_plan.h"

#include <cerrno>
#include <vector>

#include <gtest/gtest.h>

namespace rnbd::client {
namespace {

constexpr DeviceShape kShape{.size_bytes = 1 << 30,
                             .block_size = 512,
                             .max_discard_sectors = 2048,
                             .discard_granularity = 4096,
                             .max_write_zeroes_sectors = 4096};

NbdRequest request(NbdCommand command, std::uint64_t offset = 4096, std::uint32_t length = 4096,
                   std::uint16_t flags = 0) {
  return {.command = command, .flags = flags, .cookie = {}, .offset = offset, .length = length};
}

struct Mapping {
  NbdRequest request;
  IoKind kind;
  rtrs::Direction direction;
  bool carries_data;
  std::uint32_t operation;
};

TEST(IoPlan, MapsEachCommandAsAKernelClientWould) {
  using rtrs::Direction;
  const std::vector<Mapping> mappings = {
      {request(NbdCommand::Read), IoKind::Read, Direction::Read, true, 0x100},
      {request(NbdCommand::Write), IoKind::Write, Direction::Write, true, 0x001},
      {request(NbdCommand::Write, 0, 512, kNbdFua), IoKind::Write, Direction::Write, true, 0x301},
      {request(NbdCommand::Flush, 0, 0), IoKind::Flush, Direction::Read, false, 0x302},
      {request(NbdCommand::Trim), IoKind::Discard, Direction::Write, false, 0x003},
      {request(NbdCommand::WriteZeroes), IoKind::ZeroRange, Direction::Write, false, 0x005},
      {request(NbdCommand::WriteZeroes, 0, 512, kNbdNoHole), IoKind::ZeroData, Direction::Write,
       true, 0x001},
      {request(NbdCommand::WriteZeroes, 0, 512, kNbdFua), IoKind::ZeroData, Direction::Write, true,
       0x301},
  };
  for (const Mapping& mapping : mappings) {
    SCOPED_TRACE(testing::Message() << "command " << static_cast<int>(mapping.request.command)
                                    << " flags " << mapping.request.flags);
    const IoPlan plan = plan_io(mapping.request, kShape);
    EXPECT_EQ(plan.error, 0);
    EXPECT_EQ(plan.kind, mapping.kind);
    EXPECT_EQ(plan.direction, mapping.direction);
    EXPECT_EQ(plan.carries_data, mapping.carries_data);
    EXPECT_EQ(plan.operation, mapping.operation);
  }
}

TEST(IoPlan, WritesZeroesWhereTheServerCannotMakeThem) {
  DeviceShape shape = kShape;
  shape.max_write_zeroes_sectors = 0;
  EXPECT_EQ(plan_io(request(NbdCommand::WriteZeroes), shape).kind, IoKind::ZeroData);
  // Less than one block of the device is as good as nothing.
  shape.block_size = 4096;
  shape.max_write_zeroes_sectors = 7;
  EXPECT_EQ(plan_io(request(NbdCommand::WriteZeroes), shape).kind, IoKind::ZeroData);
}

TEST(IoPlan, RefusesWhatTheKernelShouldNotSend) {
  const std::uint64_t end = kShape.size_bytes;
  for (const NbdCommand command :
       {NbdCommand::Read, NbdCommand::Write, NbdCommand::Trim, NbdCommand::WriteZeroes}) {
    SCOPED_TRACE(static_cast<int>(command));
    EXPECT_EQ(plan_io(request(command, end - 512, 512), kShape).error, 0);
    EXPECT_EQ(plan_io(request(command, end - 512, 1024), kShape).error, EINVAL);
    EXPECT_EQ(plan_io(request(command, end, 512), kShape).error, EINVAL);
    EXPECT_EQ(plan_io(request(command, ~0ULL - 511, 512), kShape).error, EINVAL);
    EXPECT_EQ(plan_io(request(command, 0, 0), kShape).error, EINVAL);
    EXPECT_EQ(plan_io(request(command, 1, 512), kShape).error, EINVAL);
    EXPECT_EQ(plan_io(request(command, 0, 513), kShape).error, EINVAL);
    EXPECT_EQ(plan_io(request(command, 0, 512, 1 << 2), kShape).error, EINVAL);
  }
  EXPECT_EQ(plan_io(request(NbdCommand::Read, 0, kNbdMaxPayload), kShape).error, 0);
  EXPECT_EQ(plan_io(request(NbdCommand::Read, 0, kNbdMaxPayload + 512), kShape).error, EINVAL);
  EXPECT_EQ(plan_io(request(static_cast<NbdCommand>(5)), kShape).error, EINVAL);
  EXPECT_EQ(plan_io(request(static_cast<NbdCommand>(0xffff)), kShape).error, EINVAL);
}

TEST(IoPlan, RefusesTrimThatWasNotOffered) {
  DeviceShape shape = kShape;
  shape.max_discard_sectors = 0;
  EXPECT_EQ(plan_io(request(NbdCommand::Trim), shape).error, EOPNOTSUPP);
}

std::vector<std::uint32_t> cut(IoKind kind, std::uint64_t offset, std::uint32_t length,
                               const DeviceShape& shape = kShape) {
  std::vector<std::uint32_t> pieces;
  for (std::uint32_t done = 0; done < length && pieces.size() < 100; done += pieces.back()) {
    pieces.push_back(piece_length(kind, offset + done, length - done, shape, 126976));
  }
  return pieces;
}

TEST(Pieces, AreAsLargeAsTheServerTakes) {
  using Lengths = std::vector<std::uint32_t>;
  EXPECT_EQ(cut(IoKind::Write, 0, 126976), Lengths({126976}));
  EXPECT_EQ(cut(IoKind::Write, 512, 126976 + 512), Lengths({126976, 512}));
  EXPECT_EQ(cut(IoKind::Read, 0, 3 * 126976), Lengths({126976, 126976, 126976}));
  EXPECT_EQ(cut(IoKind::ZeroData, 0, 126976 + 4096), Lengths({126976, 4096}));
  EXPECT_EQ(cut(IoKind::ZeroRange, 0, (4096 + 1) * 512), Lengths({4096 * 512, 512}));
}

TEST(Pieces, OfATrimEndWhereGranulesEnd) {
  using Lengths = std::vector<std::uint32_t>;
  EXPECT_EQ(cut(IoKind::Discard, 0, 2 << 20), Lengths({1 << 20, 1 << 20}));
  EXPECT_EQ(cut(IoKind::Discard, 512, 2 << 20), Lengths({(1 << 20) - 512, 1 << 20, 512}));
  EXPECT_EQ(cut(IoKind::Discard, 512, 1 << 20), Lengths({1 << 20})) << "it fits as it is";
}

TEST(Pieces, OfTheLongestTrimAddUp) {
  DeviceShape shape = kShape;
  shape.max_discard_sectors = 0xffffffff;
  EXPECT_EQ(cut(IoKind::Discard, 0, 0xfffffe00, shape), std::vector<std::uint32_t>({0xfffffe00}));
}

TEST(Pieces, GoOnIfTheServerComesBackWithoutTrim) {
  DeviceShape shape = kShape;
  shape.max_discard_sectors = 0;
  EXPECT_EQ(cut(IoKind::Discard, 0, 1024, shape), std::vector<std::uint32_t>({512, 512}));
}

}  // namespace
}  // namespace rnbd::client
