// SPDX-License-Identifier: Apache-2.0
// The NBD protocol on a socket pair: headers and payload in, replies out, however they are cut.
#include "client/nbd_socket.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "unit/fake_nbd_kernel.h"

namespace rnbd::client {
namespace {

using Arrival = NbdSocket::Arrival;
using test::FakeNbdKernel;
using test::pattern;

class NbdSocketTest : public testing::Test, public NbdSocketEvents {
 protected:
  NbdSocketTest() { open(1 << 20); }

  void open(int buffer_bytes) {
    auto pair = make_nbd_socket_pair(buffer_bytes);
    ASSERT_TRUE(pair) << describe(pair.error());
    kernel_ = std::make_unique<FakeNbdKernel>(std::move(pair->kernels));
    std::ranges::fill(memory_, std::byte{0});
    journal_ = std::make_unique<Journal>(memory_, kShape);
    socket_ =
        std::make_unique<NbdSocket>(std::move(pair->ours), *journal_,
                                    NbdSocket::Room{.replies = 64, .payload_pieces = 2048}, *this);
  }

  void on_reply_taken(std::uint32_t slot) override { taken_.push_back(slot); }

  Arrival next(NbdRequest& request) {
    socket_->begin_round();
    const Arrival arrival = socket_->next_request(request);
    if (arrival == Arrival::Complete) socket_->skip_request();
    return arrival;
  }

  /// Receives requests and their payload until the socket says otherwise.
  Arrival receive_all() {
    for (;;) {
      const Arrival arrival = missing_ > 0 ? receive_payload() : receive_header();
      if (arrival == Arrival::Nothing || arrival == Arrival::Ended) return arrival;
    }
  }

  Arrival receive_header() {
    NbdRequest request;
    const Arrival arrival = next(request);
    if (arrival != Arrival::Complete) return arrival;
    requests_.push_back(request);
    missing_ = request.command == NbdCommand::Write ? request.length : 0;
    payloads_.emplace_back(missing_);
    return arrival;
  }

  Arrival receive_payload() {
    socket_->begin_round();
    std::size_t got = 0;
    const Arrival arrival =
        socket_->receive_payload(std::span(payloads_.back()).last(missing_), true, got);
    missing_ -= got;
    return arrival;
  }

  static constexpr JournalShape kShape{.requests = 64, .permits = 2048};

  std::unique_ptr<FakeNbdKernel> kernel_;
  std::vector<std::byte> memory_ = std::vector<std::byte>(Journal::bytes(kShape));
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<NbdSocket> socket_;
  std::vector<std::uint32_t> taken_;
  std::vector<NbdRequest> requests_;
  std::vector<std::vector<std::byte>> payloads_;
  std::size_t missing_ = 0;  ///< of the last payload
};

TEST(NbdWire, HeadersHaveTheKernelsBytes) {
  NbdRequestHeader request;
  request.magic = kNbdRequestMagic;
  request.flags = kNbdFua;
  request.command = static_cast<std::uint16_t>(NbdCommand::Write);
  request.cookie = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                    std::byte{5}, std::byte{6}, std::byte{7}, std::byte{8}};
  request.offset = 0x1122334455667788;
  request.length = 0x00010000;
  const std::array<unsigned char, 28> expected = {
      0x25, 0x60, 0x95, 0x13, 0,    1,    0,    1,    1,    2,    3, 4, 5, 6,
      7,    8,    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 1, 0, 0};
  EXPECT_EQ(std::memcmp(&request, expected.data(), expected.size()), 0);

  NbdReplyHeader reply;
  reply.magic = kNbdReplyMagic;
  reply.error = 5;
  const std::array<unsigned char, 8> start = {0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5};
  EXPECT_EQ(std::memcmp(&reply, start.data(), start.size()), 0);
}

TEST(NbdWire, ErrorsTheProtocolLacksBecomeEio) {
  EXPECT_EQ(to_nbd_error(0), 0U);
  EXPECT_EQ(to_nbd_error(ENOSPC), 28U);
  EXPECT_EQ(to_nbd_error(ETIMEDOUT), 5U);
  EXPECT_EQ(to_nbd_error(-5), 5U);
}

TEST_F(NbdSocketTest, TakesManyHeadersAtOnce) {
  for (std::uint32_t i = 0; i < 40; ++i) kernel_->read(std::uint64_t{i} * 4096, 4096);
  kernel_->pump();
  EXPECT_EQ(receive_all(), Arrival::Nothing);
  ASSERT_EQ(requests_.size(), 40U);
  for (std::uint32_t i = 0; i < 40; ++i) EXPECT_EQ(requests_[i].offset, std::uint64_t{i} * 4096);
}

TEST_F(NbdSocketTest, SaysNothingUntilAHeaderIsWhole) {
  kernel_->read(0, 512);
  kernel_->send_step = 1;
  NbdRequest request;
  for (int i = 0; i < 27; ++i) {
    kernel_->pump();
    ASSERT_NE(next(request), Arrival::Complete);
    ASSERT_EQ(next(request), Arrival::Nothing);
  }
  kernel_->pump();
  EXPECT_EQ(next(request), Arrival::Complete);
}

TEST_F(NbdSocketTest, LooksAgainOnlyInANewRoundOnceItFoundTheSocketEmpty) {
  kernel_->read(0, 512);
  kernel_->pump();
  NbdRequest request;
  ASSERT_EQ(next(request), Arrival::Complete);
  kernel_->read(1, 512);
  kernel_->pump();
  ASSERT_EQ(next(request), Arrival::Complete);
  kernel_->read(2, 512);
  kernel_->pump();
  EXPECT_EQ(socket_->next_request(request), Arrival::Nothing);
  EXPECT_EQ(next(request), Arrival::Complete);
}

TEST_F(NbdSocketTest, PayloadBehindOtherHeadersIsKept) {
  // A write in each place of the window of 16 headers, with less and more data than follows it.
  for (const std::uint32_t length : {1U, 27U, 28U, 100U, 512U, 4096U}) {
    for (std::uint32_t before = 0; before < 17; ++before) {
      SCOPED_TRACE(testing::Message() << before << " reads, then " << length << " bytes");
      requests_.clear();
      payloads_.clear();
      kernel_->read(0, 512);  // so that a whole window is asked for next
      kernel_->pump();
      ASSERT_EQ(receive_all(), Arrival::Nothing);
      for (std::uint32_t i = 0; i < before; ++i) kernel_->read(i, 512);
      const auto data = pattern(length, before);
      kernel_->write(77, data);
      kernel_->read(88, 512);
      kernel_->write(99, data);
      kernel_->pump();
      ASSERT_EQ(receive_all(), Arrival::Nothing) << socket_->error().message;
      ASSERT_EQ(requests_.size(), before + 4U);
      EXPECT_EQ(payloads_[before + 1], data);
      EXPECT_EQ(requests_[before + 2].offset, 88U);
      EXPECT_EQ(payloads_[before + 3], data);
    }
  }
}

TEST_F(NbdSocketTest, StreamMayBeCutAtEveryByte) {
  const auto first = pattern(512, 1);
  const auto second = pattern(700, 2);
  constexpr std::size_t kTotal = 28 + 28 + 512 + 28 + 28 + 700 + 28;
  for (std::size_t cut = 1; cut < kTotal; ++cut) {
    SCOPED_TRACE(cut);
    open(1 << 20);
    requests_.clear();
    payloads_.clear();
    kernel_->read(1, 512);
    kernel_->write(2, first);
    kernel_->flush();
    kernel_->write(3, second);
    kernel_->read(4, 512);
    kernel_->send_step = cut;
    kernel_->pump();
    receive_all();
    kernel_->send_step = kTotal;
    kernel_->pump();
    ASSERT_EQ(receive_all(), Arrival::Nothing);
    ASSERT_EQ(requests_.size(), 5U);
    EXPECT_EQ(payloads_[1], first);
    EXPECT_EQ(payloads_[3], second);
    EXPECT_EQ(requests_[4].offset, 4U);
  }
}

TEST_F(NbdSocketTest, NeverReadsBeyondTheTarget) {
  const auto data = pattern(1024, 1);
  kernel_->write(0, data);
  kernel_->write(1, data);
  kernel_->pump();
  NbdRequest request;
  ASSERT_EQ(next(request), Arrival::Complete);
  std::vector<std::byte> target(600, std::byte{0x55});
  std::size_t got = 0;
  ASSERT_EQ(socket_->receive_payload(std::span(target).first(500), false, got), Arrival::Complete);
  EXPECT_EQ(got, 500U);
  EXPECT_EQ(target[499], data[499]);
  EXPECT_EQ(target[500], std::byte{0x55});
  target.assign(524, {});
  ASSERT_EQ(socket_->receive_payload(target, true, got), Arrival::Complete);
  EXPECT_EQ(target[523], data[1023]);
  ASSERT_EQ(next(request), Arrival::Complete);
  EXPECT_EQ(request.offset, 1U);
}

TEST_F(NbdSocketTest, GarbageEndsTheSocketForGood) {
  kernel_->read(0, 512);
  kernel_->put(pattern(28, 1));
  kernel_->read(0, 512);
  kernel_->pump();
  NbdRequest request;
  EXPECT_EQ(next(request), Arrival::Complete);
  EXPECT_EQ(receive_all(), Arrival::Ended);
  EXPECT_EQ(socket_->error().code, EPROTO);
  EXPECT_NE(socket_->error().message.find("magic"), std::string::npos);
}

TEST_F(NbdSocketTest, AWriteBeyondTheBoundEndsTheSocket) {
  kernel_->send(NbdCommand::Write, 0, 0, kNbdMaxPayload + 1);
  kernel_->pump();
  EXPECT_EQ(receive_all(), Arrival::Ended);
  EXPECT_EQ(socket_->error().code, EPROTO);
}

TEST_F(NbdSocketTest, TheKernelsCloseIsToldAfterWhatItSent) {
  kernel_->read(0, 512);
  kernel_->pump();
  kernel_->close();
  NbdRequest request;
  EXPECT_EQ(next(request), Arrival::Complete);
  EXPECT_EQ(next(request), Arrival::Ended);
  EXPECT_EQ(socket_->error().code, EPIPE);
}

TEST_F(NbdSocketTest, AClosedKernelTakesNoRepliesButItsRequestsArrive) {
  const auto tag = kernel_->read(0, 512);
  kernel_->pump();
  NbdRequest request;
  ASSERT_EQ(next(request), Arrival::Complete);
  kernel_->disconnect();
  kernel_->pump();
  kernel_->close();
  socket_->queue_reply(3, request.cookie, 5);
  EXPECT_EQ(socket_->flush(), NbdSocket::Sending::Ended);
  EXPECT_EQ(taken_, std::vector<std::uint32_t>({3})) << "tag " << tag;
  EXPECT_EQ(next(request), Arrival::Complete);
  EXPECT_EQ(request.command, NbdCommand::Disconnect);
  EXPECT_EQ(next(request), Arrival::Ended);
}

TEST_F(NbdSocketTest, RepliesLeaveTogetherInTheirOrder) {
  std::vector<std::vector<std::byte>> data;
  for (std::uint32_t i = 0; i < 20; ++i) {
    kernel_->read(i, 512);
    data.push_back(pattern(512, i));
  }
  kernel_->pump();
  ASSERT_EQ(receive_all(), Arrival::Nothing);
  for (std::uint32_t i = 20; i-- > 0;) {
    socket_->queue_reply(i, requests_[i].cookie, i % 3 == 0 ? 5 : 0);
    if (i % 3 != 0) {
      socket_->add_payload(std::span(data[i]).first(200));
      socket_->add_payload(std::span(data[i]).subspan(200));
    }
  }
  EXPECT_TRUE(taken_.empty());
  EXPECT_EQ(socket_->flush(), NbdSocket::Sending::Done);
  EXPECT_EQ(taken_.size(), 20U);
  EXPECT_EQ(taken_.front(), 19U);
  kernel_->pump();
  for (std::uint32_t i = 0; i < 20; ++i) {
    const auto& request = (*kernel_)[i];
    EXPECT_TRUE(request.answered);
    EXPECT_EQ(request.error, i % 3 == 0 ? 5U : 0U);
    if (i % 3 != 0) {
      EXPECT_EQ(request.data, data[i]);
    }
  }
}

TEST_F(NbdSocketTest, AFullSocketKeepsItsPlace) {
  open(4096);  // the least there is
  constexpr std::uint32_t kLength = 300'000;
  std::vector<std::vector<std::byte>> data;
  for (std::uint32_t i = 0; i < 3; ++i) {
    kernel_->read(i, kLength);
    data.push_back(pattern(kLength, i));
  }
  kernel_->pump();
  ASSERT_EQ(receive_all(), Arrival::Nothing);
  for (std::uint32_t i = 0; i < 3; ++i) {
    socket_->queue_reply(i, requests_[i].cookie, 0);
    // More pieces than one sendmsg takes.
    for (std::size_t at = 0; at < kLength; at += 500) {
      socket_->add_payload(std::span(data[i]).subspan(at, 500));
    }
  }
  kernel_->receive_step = 1000;
  int flushes = 0;
  while (socket_->flush() != NbdSocket::Sending::Done) {
    ASSERT_LT(++flushes, 100'000);
    ASSERT_TRUE(socket_->blocked());
    for (const std::uint32_t slot : taken_) EXPECT_LT(slot, 3U);
    EXPECT_TRUE(taken_.empty() || (*kernel_)[0].answered || taken_.size() < 2)
        << "taken before it can have been";
    kernel_->pump();
  }
  EXPECT_GT(flushes, 10);
  EXPECT_FALSE(socket_->blocked());
  EXPECT_EQ(taken_, std::vector<std::uint32_t>({0, 1, 2}));
  while (kernel_->pump()) {
  }
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ((*kernel_)[i].data, data[i]);
}

TEST_F(NbdSocketTest, ASuccessorGoesOnInTheMiddleOfAReply) {
  open(4096);
  constexpr std::uint32_t kLength = 300'000;
  auto data = pattern(kLength, 7);
  kernel_->read(0, kLength);
  kernel_->pump();
  NbdRequest request;
  ASSERT_EQ(socket_->next_request(request), Arrival::Complete);
  socket_->open_request(9);
  socket_->queue_reply(9, request.cookie, 0);
  socket_->add_payload(data);
  ASSERT_EQ(socket_->flush(), NbdSocket::Sending::Blocked);

  Journal journal(memory_, kShape);
  const auto left = journal.recover();
  ASSERT_TRUE(left && left->half_sent);
  EXPECT_EQ(left->half_sent->slot, 9);
  NbdSocket successor(UniqueFd(::dup(socket_->fd())), journal,
                      NbdSocket::Room{.replies = 64, .payload_pieces = 2048}, *this);
  const std::array pieces = {std::span(data).first(1000), std::span(data).subspan(1000)};
  successor.go_on(9, request.cookie, 0, pieces, left->half_sent->sent);
  int flushes = 0;
  while (successor.flush() != NbdSocket::Sending::Done) {
    ASSERT_LT(++flushes, 100'000);
    kernel_->pump();
  }
  while (kernel_->pump()) {
  }
  EXPECT_EQ(taken_, std::vector<std::uint32_t>({9}));
  EXPECT_EQ((*kernel_)[0].data, data);
}

TEST_F(NbdSocketTest, RoomForRepliesIsUsedAgainBehindAFullSocket) {
  open(4096);
  constexpr std::uint32_t kLength = 100'000;
  std::vector<std::vector<std::byte>> data;
  for (std::uint32_t i = 0; i < 3; ++i) {
    kernel_->read(i, kLength);
    data.push_back(pattern(kLength, i));
  }
  kernel_->pump();
  ASSERT_EQ(receive_all(), Arrival::Nothing);
  NbdSocket narrow(UniqueFd(::dup(socket_->fd())), *journal_,
                   NbdSocket::Room{.replies = 3, .payload_pieces = 2}, *this);
  const auto reply = [&](std::uint32_t slot) {
    narrow.queue_reply(slot, requests_[slot].cookie, 0);
    narrow.add_payload(data[slot]);
  };
  reply(0);
  reply(1);
  for (int flushes = 0; taken_.empty(); ++flushes) {
    ASSERT_LT(flushes, 100'000);
    static_cast<void>(narrow.flush());
    if (taken_.empty()) kernel_->pump();
  }
  ASSERT_EQ(taken_.size(), 1U) << "the other one is still going out";
  reply(2);
  while (narrow.flush() != NbdSocket::Sending::Done) kernel_->pump();
  while (kernel_->pump()) {
  }
  EXPECT_EQ(taken_, std::vector<std::uint32_t>({0, 1, 2}));
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ((*kernel_)[i].data, data[i]);
}

TEST_F(NbdSocketTest, WhatIsNoSocketEndsWithTheSystemsWord) {
  std::ranges::fill(memory_, std::byte{0});
  NbdSocket none(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)), *journal_,
                 NbdSocket::Room{.replies = 64, .payload_pieces = 2048}, *this);
  NbdRequest request;
  EXPECT_EQ(none.next_request(request), Arrival::Ended);
  EXPECT_EQ(none.error().code, ENOTSOCK);
  none.queue_reply(0, {}, 0);
  EXPECT_EQ(none.flush(), NbdSocket::Sending::Ended);
  EXPECT_EQ(taken_, std::vector<std::uint32_t>({0})) << "nobody waits for it for ever";
  none.queue_reply(1, {}, 0);
  EXPECT_EQ(none.flush(), NbdSocket::Sending::Ended);
  EXPECT_EQ(none.next_request(request), Arrival::Ended);
}

TEST_F(NbdSocketTest, PayloadAfterTheEndDoesNotCome) {
  kernel_->send(NbdCommand::Write, 0, 0, 1024, pattern(512, 1));
  kernel_->pump();
  kernel_->close();
  NbdRequest request;
  ASSERT_EQ(next(request), Arrival::Complete);
  std::vector<std::byte> target(1024);
  std::size_t got = 0;
  EXPECT_EQ(socket_->receive_payload(target, true, got), Arrival::Partial);
  const std::size_t here = got;
  EXPECT_EQ(here, 512U);
  for (int i = 0; i < 2; ++i) {
    socket_->begin_round();
    EXPECT_EQ(socket_->receive_payload(std::span(target).subspan(here), true, got), Arrival::Ended);
  }
  EXPECT_EQ(socket_->error().code, EPIPE);
}

TEST(NbdSocketPair, NeedsDescriptors) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto pair = make_nbd_socket_pair(4096);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(pair);
  EXPECT_EQ(pair.error().code, EMFILE);
}

TEST_F(NbdSocketTest, DroppedRepliesAreAllTold) {
  kernel_->read(0, 512);
  kernel_->read(1, 512);
  kernel_->pump();
  receive_all();
  socket_->queue_reply(5, requests_[0].cookie, 5);
  socket_->queue_reply(6, requests_[1].cookie, 5);
  socket_->drop_replies();
  EXPECT_EQ(taken_, std::vector<std::uint32_t>({5, 6}));
  EXPECT_EQ(socket_->flush(), NbdSocket::Sending::Done);
  kernel_->pump();
  EXPECT_EQ(kernel_->unanswered(), 2U);
}

TEST_F(NbdSocketTest, SlotsAreUsedAgainForALongTime) {
  auto data = pattern(4096, 1);
  for (std::uint32_t turn = 0; turn < 2000; ++turn) {
    const auto tag = kernel_->read(turn, 4096);
    kernel_->pump();
    NbdRequest request;
    ASSERT_EQ(next(request), Arrival::Complete);
    socket_->queue_reply(turn % 64, request.cookie, 0);
    socket_->add_payload(data);
    ASSERT_EQ(socket_->flush(), NbdSocket::Sending::Done);
    kernel_->pump();
    ASSERT_TRUE((*kernel_)[tag].answered);
  }
}

}  // namespace
}  // namespace rnbd::client
