// SPDX-License-Identifier: Apache-2.0
// The contract, on what a connection carries: order, visibility, receives, completions.
#include <poll.h>

#include "contract/fabric_contract.h"
#include "contract/peer.h"

namespace rnbd::contract {
namespace {

using transport::Completion;
using transport::CompletionKind;
using transport::CompletionStatus;
using transport::ReceiveRequest;
using transport::RegionUse;
using transport::WorkRequest;

constexpr std::uint32_t kQueue = Connection::kQueue;

TEST_P(FabricContract, ASendFillsTheReceiveItMeets) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer target(pair.server.device(), 8192, RegionUse::Local);
  source.fill(0x5a);
  pair.server.post_receives(std::array{target.receive(7, 4096, 4096)});
  pair.client.post({send(1, source.local(0, 272))});
  ASSERT_TRUE(pair.wait_for(pair.server, {7}));
  ASSERT_TRUE(pair.wait_for(pair.client, {1}));

  const Completion& received = *pair.server.find(7);
  EXPECT_EQ(received.status, CompletionStatus::Success);
  EXPECT_EQ(received.kind, CompletionKind::Receive);
  EXPECT_EQ(received.length, 272U);
  EXPECT_EQ(target.memory()[4095], std::byte{0});
  EXPECT_EQ(target.memory()[4096], std::byte{0x5a});
  EXPECT_EQ(target.memory()[4096 + 271], std::byte{0x5a});
  EXPECT_EQ(target.memory()[4096 + 272], std::byte{0});
  EXPECT_EQ(pair.client.find(1)->kind, CompletionKind::Done);
  EXPECT_TRUE(pair.client.succeeded(1));
}

TEST_P(FabricContract, ImmediatesArriveInHostOrder) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer target(pair.server.device(), 4096, RegionUse::RemoteWrite);
  const Buffer inbox(pair.server.device(), 4096, RegionUse::Local);
  source.fill(0x33);
  pair.server.post_receives(
      std::array{inbox.receive(1, 0, 64), ReceiveRequest{.id = 2}, ReceiveRequest{.id = 3}});
  pair.client.post({send_immediate(11, 0x01020304, source.local(0, 8)),
                    write_immediate(12, 0xa0b0c0d0, source.local(0, 512), target.remote(64)),
                    send_immediate(13, 0x8000'0001)});
  ASSERT_TRUE(pair.wait_for(pair.server, {1, 2, 3}));

  EXPECT_EQ(pair.server.find(1)->kind, CompletionKind::ReceiveImmediate);
  EXPECT_EQ(pair.server.find(1)->immediate, 0x01020304U);
  EXPECT_EQ(pair.server.find(1)->length, 8U);
  EXPECT_EQ(pair.server.find(2)->kind, CompletionKind::WriteImmediate);
  EXPECT_EQ(pair.server.find(2)->immediate, 0xa0b0c0d0U);
  EXPECT_EQ(target.memory()[63], std::byte{0});
  EXPECT_EQ(target.memory()[64], std::byte{0x33});
  EXPECT_EQ(target.memory()[64 + 511], std::byte{0x33});
  EXPECT_EQ(target.memory()[64 + 512], std::byte{0});
  EXPECT_EQ(pair.server.find(3)->kind, CompletionKind::ReceiveImmediate);
  EXPECT_EQ(pair.server.find(3)->immediate, 0x8000'0001U);
  EXPECT_EQ(pair.server.find(3)->length, 0U);
}

TEST_P(FabricContract, AnEmptyWriteImmediateNeedsNoRemoteMemory) {
  Connection pair(fabric());
  pair.server.post_empty_receives(1, 1);
  pair.client.post({write_immediate(5, 77, {}, {.address = 0xdead, .key = 0xbeef})});
  ASSERT_TRUE(pair.wait_for(pair.server, {1}));
  ASSERT_TRUE(pair.wait_for(pair.client, {5}));
  EXPECT_TRUE(pair.server.succeeded(1));
  EXPECT_EQ(pair.server.find(1)->kind, CompletionKind::WriteImmediate);
  EXPECT_EQ(pair.server.find(1)->immediate, 77U);
  EXPECT_TRUE(pair.client.succeeded(5));
}

TEST_P(FabricContract, EverythingKeepsItsOrder) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer target(pair.server.device(), 4096, RegionUse::RemoteWrite);
  const Buffer inbox(pair.server.device(), 4096, RegionUse::Local);
  std::vector<ReceiveRequest> receives;
  for (std::uint64_t i = 0; i < kQueue; ++i) receives.push_back(inbox.receive(i, i * 64, 64));
  pair.server.post_receives(receives);

  std::vector<WorkRequest> work;
  for (std::uint32_t i = 0; i < kQueue; ++i) {
    work.push_back(i % 3 == 0   ? send_immediate(i, i, source.local(0, 16))
                   : i % 3 == 1 ? write_immediate(i, i, source.local(0, 300), target.remote())
                                : write_immediate(i, i));
  }
  pair.client.post(work);
  ASSERT_TRUE(pair.wait([&] {
    return pair.server.completions.size() == kQueue && pair.client.completions.size() == kQueue;
  }));
  EXPECT_EQ(pair.client.ids(0, kQueue, CompletionStatus::Success), from_to(0, kQueue - 1));
  EXPECT_EQ(pair.server.ids(0, kQueue, CompletionStatus::Success), from_to(0, kQueue - 1));
  for (const Completion& completion : pair.server.completions) {
    EXPECT_EQ(completion.immediate, completion.id);
  }
}

TEST_P(FabricContract, WrittenDataIsThereWhenALaterImmediateArrives) {
  constexpr std::size_t kPart = 16 * 1024;
  constexpr std::size_t kParts = 4;
  Connection pair(fabric());
  const Buffer source(pair.client.device(), kPart * kParts, RegionUse::Local);
  const Buffer target(pair.server.device(), kPart * kParts, RegionUse::RemoteWrite);
  for (std::uint8_t round = 1; round <= 20; ++round) {
    source.fill(round);
    pair.server.post_empty_receives(round, 1);
    std::vector<WorkRequest> work;
    for (std::size_t part = 0; part < kParts; ++part) {
      work.push_back(
          silent(write(0, source.local(part * kPart, kPart), target.remote(part * kPart))));
    }
    work.push_back(round % 2 == 0 ? write_immediate(round, round) : send(round));
    pair.client.post(work);
    ASSERT_TRUE(pair.wait([&] {
      if (pair.server.find(round) == nullptr) return false;
      EXPECT_TRUE(target.is_filled(round)) << "in round " << int{round};
      return true;
    }));
    ASSERT_TRUE(pair.wait_for(pair.client, {round}));
  }
}

TEST_P(FabricContract, AMebibyteIsOneWrite) {
  constexpr std::size_t kSize = 1 << 20;
  Connection pair(fabric());
  const Buffer source(pair.client.device(), kSize, RegionUse::Local);
  const Buffer target(pair.server.device(), kSize, RegionUse::RemoteWrite);
  for (std::size_t i = 0; i < kSize; ++i) source.memory()[i] = static_cast<std::byte>(i * 31 >> 3);
  pair.server.post_empty_receives(1, 1);
  pair.client.post({write_immediate(1, 1, source.local(0, kSize), target.remote())});
  ASSERT_TRUE(pair.wait_for(pair.server, {1}));
  EXPECT_TRUE(std::ranges::equal(source.memory(), target.memory()));
}

TEST_P(FabricContract, ReceivesAreUsedInTheOrderTheyWerePosted) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer inbox(pair.server.device(), 4096, RegionUse::Local);
  pair.server.post_receives(std::array{inbox.receive(30, 0, 64), inbox.receive(10, 64, 64)});
  pair.server.post_receives(std::array{inbox.receive(20, 128, 64)});
  for (std::size_t i = 0; i < 3; ++i) source.memory()[i] = static_cast<std::byte>(i + 1);
  pair.client.post({send(1, source.local(0, 1)), send(2, source.local(1, 1))});
  pair.client.post({send(3, source.local(2, 1))});
  ASSERT_TRUE(pair.wait_for(pair.server, {10, 20, 30}));
  EXPECT_EQ(inbox.memory()[0], std::byte{1});
  EXPECT_EQ(inbox.memory()[64], std::byte{2});
  EXPECT_EQ(inbox.memory()[128], std::byte{3});
}

TEST_P(FabricContract, WithoutAReceiveWorkWaits) {
  Connection pair(fabric());
  pair.client.post({write_immediate(1, 1), send(2), write_immediate(3, 3)});
  pair.settle();
  EXPECT_TRUE(pair.client.completions.empty());

  pair.server.post_empty_receives(1, 1);
  ASSERT_TRUE(pair.wait_for(pair.server, {1}));
  ASSERT_TRUE(pair.wait_for(pair.client, {1}));
  pair.settle();
  EXPECT_EQ(pair.client.completions.size(), 1U);

  pair.server.post_empty_receives(2, 2);
  ASSERT_TRUE(pair.wait_for(pair.server, {2, 3}));
  ASSERT_TRUE(pair.wait_for(pair.client, {2, 3}));
  EXPECT_EQ(pair.server.find(3)->immediate, 3U);
}

TEST_P(FabricContract, AWriteUsesNoReceive) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer target(pair.server.device(), 4096, RegionUse::RemoteWrite);
  pair.server.post_empty_receives(1, 1);
  pair.client.post({write(1, source.local(0, 512), target.remote()),
                    write(2, source.local(0, 512), target.remote(512))});
  ASSERT_TRUE(pair.wait_for(pair.client, {1, 2}));
  pair.settle();
  EXPECT_TRUE(pair.server.completions.empty());
}

TEST_P(FabricContract, UnsignalledWorkCompletesSilently) {
  Connection pair(fabric());
  pair.server.post_empty_receives(1, 6);
  pair.client.post({silent(write_immediate(1, 1)), silent(send(2)), write_immediate(3, 3),
                    silent(send(4)), silent(write_immediate(5, 5)), send(6)});
  ASSERT_TRUE(pair.wait_for(pair.server, {1, 2, 3, 4, 5, 6}));
  ASSERT_TRUE(pair.wait_for(pair.client, {3, 6}));
  pair.settle();
  EXPECT_EQ(pair.client.completions.size(), 2U);
}

TEST_P(FabricContract, QueuesCanBeFilledAgainAndAgain) {
  Connection pair(fabric());
  for (std::uint64_t round = 0; round < 8; ++round) {
    const std::uint64_t first = round * kQueue;
    pair.server.post_empty_receives(first, kQueue);
    std::vector<WorkRequest> work;
    for (std::uint64_t i = first; i < first + kQueue; ++i) {
      work.push_back(silent(write_immediate(i, static_cast<std::uint32_t>(i))));
    }
    work.back().signalled = true;
    pair.client.post(work);
    ASSERT_TRUE(pair.wait_for(pair.client, {first + kQueue - 1}));
    ASSERT_TRUE(pair.wait_for(pair.server, {first + kQueue - 1}));
  }
  EXPECT_EQ(pair.server.completions.size(), 8 * kQueue);
  EXPECT_EQ(pair.client.completions.size(), 8U);
}

TEST_P(FabricContract, BothDirectionsAtOnce) {
  constexpr std::uint64_t kRounds = 200;
  Connection pair(fabric());
  pair.client.post_empty_receives(0, kQueue);
  pair.server.post_empty_receives(0, kQueue);
  struct Side {
    Peer& peer;
    std::uint64_t sent = 0;
    std::size_t seen = 0;
    std::uint32_t expected = 0;
    std::uint32_t room = kQueue / 2;
  };
  Side sides[] = {{.peer = pair.client}, {.peer = pair.server}};
  const auto turn = [&](Side& side) {
    for (; side.seen < side.peer.completions.size(); ++side.seen) {
      const Completion& completion = side.peer.completions[side.seen];
      EXPECT_EQ(completion.status, CompletionStatus::Success);
      if (completion.kind == CompletionKind::Done) {
        ++side.room;
      } else {
        EXPECT_EQ(completion.immediate, side.expected++);
        side.peer.post_empty_receives(0, 1);
      }
    }
    for (; side.room > 0 && side.sent < kRounds; --side.room, ++side.sent) {
      side.peer.post({write_immediate(1000, static_cast<std::uint32_t>(side.sent))});
    }
    return side.expected == kRounds;
  };
  EXPECT_TRUE(pair.wait([&] {
    const bool first = turn(sides[0]);
    return turn(sides[1]) && first;
  }));
}

TEST_P(FabricContract, ConnectionsDoNotWaitForEachOther) {
  Connection stuck(fabric());
  Connection free(fabric());
  stuck.client.post({send(1)});  // meets no receive
  free.server.post_empty_receives(1, 1);
  free.client.post({send(1)});
  ASSERT_TRUE(free.wait_for(free.client, {1}));
  EXPECT_TRUE(free.client.succeeded(1));
  stuck.settle();
  EXPECT_TRUE(stuck.client.completions.empty());
}

TEST_P(FabricContract, PollGivesNoMoreThanThereIsRoomFor) {
  Connection pair(fabric());
  pair.server.post_empty_receives(1, 3);
  pair.client.post({silent(send(1)), silent(send(2)), send(3)});
  ASSERT_TRUE(fabric().wait_until([&] {
    pair.client.poll();
    return pair.client.find(3) != nullptr;
  }));
  fabric().settle();
  std::array<Completion, 2> batch;
  EXPECT_EQ(pair.server.endpoint->poll(std::span(batch).first(0)), 0U);
  EXPECT_EQ(pair.server.endpoint->poll(batch), 2U);
  EXPECT_EQ(batch[0].id, 1U);
  EXPECT_EQ(batch[1].id, 2U);
  EXPECT_EQ(pair.server.endpoint->poll(batch), 1U);
  EXPECT_EQ(batch[0].id, 3U);
  EXPECT_EQ(pair.server.endpoint->poll(batch), 0U);
}

bool is_readable(int fd) {
  pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&watched, 1, 0) == 1;
}

TEST_P(FabricContract, AnArmedQueueSignalsTheNextCompletion) {
  Connection pair(fabric());
  transport::Endpoint& server = *pair.server.endpoint;
  pair.server.post_empty_receives(1, 3);
  for (std::uint64_t id = 1; id <= 3; ++id) {
    ASSERT_TRUE(server.arm());
    EXPECT_FALSE(is_readable(server.wait_fd()));
    pair.client.post({send(id)});
    ASSERT_TRUE(fabric().wait_until([&] { return is_readable(server.wait_fd()); }));
    ASSERT_TRUE(pair.wait_for(pair.server, {id}));
  }
}

TEST_P(FabricContract, AQueueWithCompletionsCannotBeArmed) {
  Connection pair(fabric());
  pair.server.post_empty_receives(1, 1);
  pair.client.post({send(1)});
  ASSERT_TRUE(fabric().wait_until([&] { return !pair.server.endpoint->arm(); }));
  pair.server.poll();
  EXPECT_TRUE(pair.server.succeeded(1));
  EXPECT_TRUE(pair.server.endpoint->arm());
}

}  // namespace
}  // namespace rnbd::contract
