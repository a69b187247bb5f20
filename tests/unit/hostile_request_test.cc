// SPDX-License-Identifier: Apache-2.0
// Clients that follow RTRS's rules and break RNBD's: each wrong message is answered with an errno,
// and the path stays. And clients whose messages were hit by chance, thousands of times.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>

#include "unit/hostile_client.h"

namespace rnbd::server::test {
namespace {

using rtrs::Immediate;
using rtrs::ImmediateType;
using wire::Operation;

constexpr std::uint64_t kSectors = kDiskSize / wire::kSectorSize;

class HostileRequest : public HostileClient {
 protected:
  void SetUp() override {
    HostileClient::SetUp();
    ASSERT_TRUE(evil_.bring_up());
    ASSERT_EQ(open(open_message("disk")), 0);
  }

  int open(const wire::Open& message, std::uint32_t room = sizeof(wire::OpenResponse)) {
    return evil_.ask(evil_.read_request(join(message), room));
  }
  [[nodiscard]] wire::OpenResponse opened() const {
    return load<wire::OpenResponse>(evil_.received());
  }
  int close_device(std::uint32_t device_id) {
    return evil_.ask(RawClient::write_request(join(close_message(device_id))));
  }
  int read(const wire::Io& message, std::uint32_t length = kBlock) {
    return evil_.ask(evil_.read_request(join(message), length));
  }
  int write(const wire::Io& message, std::uint32_t length = kBlock) {
    return evil_.ask(RawClient::write_request(join(message), filled(length, 0x5a)));
  }
};

INSTANTIATE_TEST_SUITE_P(Orders, HostileRequest,
                         testing::Combine(testing::ValuesIn(orders({0, 1})), testing::Bool()),
                         order_name);

TEST_P(HostileRequest, MessagesThatAreTooShortAreInvalid) {
  const Bytes whole[] = {join(io(Operation::Read, 0, kBlock)), join(open_message("disk")),
                         join(close_message(0)),
                         join(wire::SessionInfo{.header = wire::header({})})};
  const std::size_t enough[] = {offsetof(wire::Io, priority), sizeof(wire::Open),
                                sizeof(wire::Close), sizeof(wire::SessionInfo)};
  for (std::size_t kind = 0; kind < std::size(whole); ++kind) {
    for (std::size_t length = 0; length < enough[kind]; length += length < 4 ? 1 : 3) {
      SCOPED_TRACE(fmt::format("{} bytes of message {}", length, kind));
      const Bytes message(whole[kind].begin(),
                          whole[kind].begin() + static_cast<std::ptrdiff_t>(length));
      EXPECT_EQ(evil_.ask(evil_.read_request(message, kBlock)), EINVAL);
      EXPECT_EQ(evil_.ask(RawClient::write_request(message)), EINVAL);
    }
  }
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock)), 0);
}

TEST_P(HostileRequest, ADiskThatShrinksTakesNothingBehindItsEnd) {
  constexpr std::uint64_t kBehind = kSectors / 2;
  ASSERT_EQ(write(io(Operation::Write, kBehind, kBlock)), 0);
  std::filesystem::resize_file(bench_.directory.path() / "disk", kDiskSize / 2);
  const auto resized = bench_.server.exports.revalidate();
  ASSERT_TRUE(resized);
  ASSERT_EQ(resized->size(), 1U);
  for (const auto& peer : bench_.server.peers) {
    if (peer->id() == resized->front().entry->session) peer->resize(*resized->front().entry);
  }
  bench_.settle();
  EXPECT_NE(write(io(Operation::Write, kBehind, kBlock)), 0);
  EXPECT_EQ(write(io(Operation::Write, kBehind - kBlock / wire::kSectorSize, kBlock)), 0);
  EXPECT_EQ(bench_.server.exports.revalidate()->size(), 0U) << "told once";
}

TEST_P(HostileRequest, MessagesOfOtherTypesAreInvalid) {
  for (const std::uint16_t type : std::to_array<std::uint16_t>({1, 3, 6, 7, 255, 256, 65535})) {
    wire::Open message = open_message("disk");
    message.header.type = type;
    EXPECT_EQ(open(message), EINVAL) << type;
  }
}

TEST_P(HostileRequest, WrongRequestsFailWithTheirErrno) {
  const std::size_t operations = bench_.server.disks.operations;
  const auto op = [](unsigned number) { return static_cast<Operation>(number); };
  for (const std::uint32_t id : {1U, 255U, 256U, 65536U, UINT32_MAX}) {
    EXPECT_EQ(read(io(Operation::Read, 0, kBlock, id)), ENOTCONN) << id;
    EXPECT_EQ(write(io(Operation::Write, 0, kBlock, id)), ENOTCONN) << id;
  }
  for (const std::uint64_t sector : {kSectors - 7, kSectors, kSectors + 1, std::uint64_t{1} << 32,
                                     std::uint64_t{1} << 55, UINT64_MAX - 7, UINT64_MAX}) {
    EXPECT_EQ(read(io(Operation::Read, sector, kBlock)), EIO) << sector;
    EXPECT_EQ(write(io(Operation::Write, sector, kBlock)), EIO) << sector;
    EXPECT_EQ(write(io(Operation::Discard, sector, kBlock), 0), EIO) << sector;
    EXPECT_EQ(write(io(Operation::WriteZeroes, sector, kBlock), 0), EIO) << sector;
  }
  EXPECT_EQ(write(io(Operation::Discard, 0, UINT32_MAX - 511), 0), EIO);
  for (const std::uint32_t size : {0U, 1U, 511U, 513U, kBlock - 1}) {
    EXPECT_EQ(read(io(Operation::Read, 0, size), size), EINVAL) << size;
    // Without data a write is a flush.
    EXPECT_EQ(write(io(Operation::Write, 0, size), size), size == 0 ? 0 : EINVAL) << size;
    EXPECT_EQ(write(io(Operation::Discard, 0, size), 0), EINVAL) << size;
  }
  for (const std::uint32_t size : {512U, 2 * kBlock, UINT32_MAX - 511}) {
    EXPECT_NE(read(io(Operation::Read, 0, size)), 0) << "other than what the transport carries";
    EXPECT_NE(write(io(Operation::Write, 0, size)), 0) << size;
  }
  for (const unsigned number : {6U, 7U, 128U, 255U}) {
    EXPECT_EQ(write(io(op(number), 0, kBlock)), EINVAL) << number;
    EXPECT_EQ(read(io(op(number), 0, kBlock)), EINVAL) << number;
  }
  EXPECT_EQ(write(io(Operation::SecureErase, 0, kBlock), 0), EOPNOTSUPP);
  EXPECT_EQ(read(io(Operation::Write, 0, kBlock)), EINVAL) << "a write that brings nothing";
  EXPECT_EQ(write(io(Operation::Read, 0, kBlock)), EINVAL) << "a read that awaits nothing";
  EXPECT_EQ(bench_.server.disks.operations, operations + 1) << "nothing but the flush got through";
  EXPECT_TRUE(
      std::ranges::all_of(disk("disk"), [](std::byte byte) { return byte == std::byte{}; }));
}

TEST_P(HostileRequest, AReadOnlyDiskIsNotChanged) {
  ASSERT_EQ(close_device(0), 0);
  ASSERT_EQ(open(open_message("good-disk", 0)), 0);
  const std::uint32_t id = opened().device_id;
  const Bytes content = disk("good-disk");
  EXPECT_EQ(write(io(Operation::Write, 0, kBlock, id)), EROFS);
  EXPECT_EQ(write(io(Operation::Discard, 0, kBlock, id), 0), EROFS);
  EXPECT_EQ(write(io(Operation::WriteZeroes, 0, kBlock, id), 0), EROFS);
  EXPECT_EQ(read(io(Operation::Write, 0, kBlock, id)), EROFS);
  EXPECT_EQ(disk("good-disk"), content);
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock, id)), 0);
  EXPECT_EQ(read(io(Operation::Flush, 0, 0, id), 0), 0);
}

TEST_P(HostileRequest, OpenRefusesWhatItShould) {
  wire::Open unterminated = open_message("disk");
  unterminated.device_name.fill('d');
  EXPECT_EQ(open(unterminated), EINVAL);
  EXPECT_EQ(open(open_message("")), EINVAL);
  EXPECT_EQ(open(open_message("/")), EINVAL);
  EXPECT_EQ(open(open_message("..")), EINVAL);
  EXPECT_EQ(open(open_message("../../etc/passwd")), EINVAL);
  EXPECT_EQ(open(open_message("sub/../disk")), EINVAL);
  EXPECT_EQ(open(open_message("nothing")), ENOENT);
  EXPECT_EQ(open(open_message("\x1b[2J\n\xff\xfe")), ENOENT);
  EXPECT_EQ(open(open_message(".")), ENOTBLK);
  EXPECT_EQ(open(open_message("good-disk", 1)), EPERM) << "the good client writes it";
  for (const std::uint8_t mode : std::to_array<std::uint8_t>({3, 7, 255})) {
    EXPECT_EQ(open(open_message("good-disk", mode)), EINVAL) << mode;
  }
  wire::Open mode = open_message("good-disk", 0);
  mode.io_mode = 9;
  mode.io_mode_mark = wire::kIoModeMark;
  EXPECT_EQ(open(mode), EINVAL);
  EXPECT_EQ(bench_.server.exports.list().size(), 2U) << "the two that were open before";
}

TEST_P(HostileRequest, OpeningAndClosingAgainDoesNoHarm) {
  EXPECT_EQ(open(open_message("disk", 7)), 0) << "open already, whatever else is asked for";
  EXPECT_EQ(opened().device_id, 0U);
  for (const std::uint32_t id : {1U, 255U, 256U, UINT32_MAX}) EXPECT_EQ(close_device(id), 0) << id;
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock)), 0);
  EXPECT_EQ(close_device(0), 0);
  EXPECT_EQ(close_device(0), 0);
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock)), ENOTCONN);
  EXPECT_EQ(open(open_message("disk")), 0);
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock, opened().device_id)), 0);
}

TEST_P(HostileRequest, OpensAndClosesAllAtOnceComeToAnEnd) {
  for (int round = 0; round < 20; ++round) {
    for (std::uint32_t chunk = 0; chunk < kDepth; ++chunk) {
      RawRequest request =
          chunk % 2 == 0
              ? evil_.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))
              : RawClient::write_request(join(close_message(chunk % 3)));
      if (chunk % 4 == 3)
        request = evil_.read_request(join(io(Operation::Read, 0, kBlock)), kBlock);
      request.chunk = chunk;
      request.cid = static_cast<std::uint16_t>(chunk % 3);
      evil_.post(request);
    }
    for (std::uint32_t chunk = 0; chunk < kDepth; ++chunk) {
      // EPERM: the writer that is being closed has not gone yet.
      EXPECT_THAT(evil_.outcome_of(chunk), testing::AnyOf(0, ENOTCONN, EPERM)) << chunk;
    }
  }
}

TEST_P(HostileRequest, ADeviceClosedByForceFailsUntilItIsOpenedAgain) {
  const auto peer = std::ranges::find_if(
      bench_.server.peers, [](const auto& one) { return one->session().name() != "good"; });
  ASSERT_NE(peer, bench_.server.peers.end());
  bench_.server.disks.hold = true;
  RawRequest slow =
      RawClient::write_request(join(io(Operation::Write, 0, kBlock)), filled(kBlock, 0x77));
  slow.chunk = 5;
  evil_.post(slow);
  ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == 1; }));
  int closed = 0;
  (*peer)->force_close(0, [&] { ++closed; });
  (*peer)->force_close(0, [&] { ++closed; });
  bench_.settle();
  EXPECT_EQ(closed, 0) << "a request is on its way";
  bench_.server.disks.let_go();
  EXPECT_EQ(evil_.outcome_of(5), 0);
  ASSERT_TRUE(bench_.until([&] { return closed == 2; }));
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock)), ENOTCONN);
  EXPECT_EQ(open(open_message("disk")), 0);
  EXPECT_EQ(opened().device_id, 1U) << "requests under the old id must go on failing";
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock)), ENOTCONN);
  EXPECT_EQ(read(io(Operation::Read, 0, kBlock, 1)), 0);
  EXPECT_EQ(close_device(0), 0);
  EXPECT_EQ(bench_.server.exports.list().size(), 2U) << "the id is free, once it is given back";
  (*peer)->force_close(0, [&] { ++closed; });
  EXPECT_EQ(closed, 3) << "what is not open is closed";
}

TEST_P(HostileRequest, ClosingWaitsForRequestsOnTheirWay) {
  bench_.server.disks.hold = true;
  RawRequest slow =
      RawClient::write_request(join(io(Operation::Write, 0, kBlock)), filled(kBlock, 0x77));
  slow.chunk = 5;
  evil_.post(slow);
  ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == 1; }));
  evil_.post(RawClient::write_request(join(close_message(0))));
  bench_.settle();
  EXPECT_FALSE(evil_.answers.contains(0));
  RawRequest again = RawClient::write_request(join(close_message(0)));
  again.chunk = 7;
  evil_.post(again);
  bench_.settle();
  EXPECT_FALSE(evil_.answers.contains(7)) << "whoever asks again has to wait as well";
  RawRequest second = evil_.read_request(join(io(Operation::Read, 0, kBlock)), kBlock);
  second.chunk = 6;
  EXPECT_EQ(evil_.ask(second), ENOTCONN) << "nothing new is let in";
  bench_.server.disks.let_go();
  EXPECT_EQ(evil_.outcome_of(5), 0);
  EXPECT_EQ(evil_.outcome_of(0), 0);
  EXPECT_EQ(evil_.outcome_of(7), 0);
}

TEST_P(HostileRequest, AnAnswerWithoutRoomIsNotGiven) {
  // 8 bytes of room for 56, none at all, and a write that has room nobody reads from.
  EXPECT_EQ(open(open_message("disk"), 8), EINVAL);
  EXPECT_EQ(open(open_message("disk"), 0), EINVAL);
  EXPECT_EQ(evil_.ask(RawClient::write_request(join(open_message("disk")), filled(8))), EINVAL);
  EXPECT_EQ(open(open_message("disk"), kBlock), 0) << "more room than needed";
  EXPECT_TRUE(std::ranges::all_of(
      evil_.received().subspan(sizeof(wire::OpenResponse), kBlock - sizeof(wire::OpenResponse)),
      [](std::byte byte) { return byte == std::byte{0}; }));
}

/// Valid messages with bytes, lengths and places changed by chance.
class MutatedClient : public HostileClient {
 protected:
  std::uint32_t below(std::uint32_t end) {
    return std::uniform_int_distribution<std::uint32_t>(0, end - 1)(random_);
  }
  void spoil(Bytes& message) {
    for (std::uint32_t times = below(4); times > 0 && !message.empty(); --times) {
      const std::size_t at = below(static_cast<std::uint32_t>(message.size()));
      message[at] = below(2) == 0 ? static_cast<std::byte>(below(256))
                                  : message[at] ^ static_cast<std::byte>(1U << below(8));
    }
    if (below(8) == 0) message.resize(below(static_cast<std::uint32_t>(message.size()) + 1));
  }

  /// Comes up, perhaps not quite; answers whether it did.
  bool come_up_somehow() {
    const std::uint32_t victim = below(12);  // which step is spoilt, if any
    for (std::uint16_t cid = 0; cid < 3; ++cid) {
      Bytes request = join(RawClient::request(cid));
      if (victim == cid) spoil(request);
      request.resize(sizeof(rtrs::ConnectRequest));
      const RawConnection& made = evil_.dial(std::move(request));
      if (!made.established) return false;
      if (cid == 0) evil_.parameters = *rtrs::parse_connect_response(made.answer);
    }
    Bytes info = join(RawClient::info("evil"));
    if (victim == 3) spoil(info);
    evil_[0].send(info);
    bench_.until([&] { return !evil_.chunks.empty() || evil_.over(); });
    return !evil_.chunks.empty();
  }

  RawRequest any_request() {
    const auto sector = std::uint64_t{below(300)} * 8;
    switch (below(8)) {
      case 0:
        return evil_.read_request(join(wire::SessionInfo{.header = wire::header({})}), 36);
      case 1:
        return evil_.read_request(join(open_message("disk", static_cast<std::uint8_t>(below(3)))),
                                  sizeof(wire::OpenResponse));
      case 2:
        return RawClient::write_request(join(close_message(below(2))));
      case 3:
        return RawClient::write_request(join(io(Operation::Discard, sector, kBlock * below(9))));
      case 4:
        return evil_.read_request(join(io(Operation::Flush, 0, 0)), 0);
      case 5:
        return evil_.read_request(join(io(Operation::Read, sector, kMaxIo)), kMaxIo);
      default:
        return RawClient::write_request(join(io(Operation::Write, sector, kBlock)),
                                        filled(kBlock, 0x99));
    }
  }

  void say_something() {
    RawRequest request = any_request();
    request.chunk = below(kDepth);
    request.cid = static_cast<std::uint16_t>(below(3));
    spoil(request.bytes);
    if (below(4) == 0) request.offset = below(kMaxIo + limits::kHeaderArea);
    if (below(20) == 0) request.chunk = below(16);
    if (below(20) == 0) {
      // Any type but a request's, which post() counts.
      evil_[request.cid].write_immediate(static_cast<std::uint32_t>(random_()) | 1U << 28);
    } else if (below(40) == 0) {
      evil_[request.cid].send_immediate(static_cast<std::uint32_t>(random_()), request.bytes);
    } else {
      evil_.post(request);
    }
    if (below(3) != 0) bench_.settle();
  }

  std::mt19937_64 random_{order_.seed * 7919 + (new_key() ? 1 : 0)};
};

INSTANTIATE_TEST_SUITE_P(Chances, MutatedClient,
                         testing::Combine(testing::ValuesIn(orders({1, 2, 3})), testing::Bool()),
                         order_name);

TEST_P(MutatedClient, WhateverItSaysTheServerServesTheOther) {
  const int rounds = order_.real ? 40 : 600;
  int came_up = 0;
  for (int round = 0; round < rounds; ++round) {
    evil_.hang_up();
    bench_.settle();
    if (come_up_somehow()) {
      ++came_up;
      for (int i = 0; i < 6 && !evil_.over(); ++i) say_something();
    }
    if (round % 20 == 0) {
      expect_nothing_left();
      ASSERT_FALSE(HasFailure()) << "in round " << round;
    }
  }
  EXPECT_GT(came_up, rounds / 2) << "a test that never gets anywhere tests nothing";
}

}  // namespace
}  // namespace rnbd::server::test
