// SPDX-License-Identifier: Apache-2.0
// The contract, on how connections end: who is told, what is flushed, what no longer happens.

#include "contract/fabric_contract.h"
#include "contract/peer.h"

namespace rnbd::contract {
namespace {

using transport::CompletionStatus;
using transport::RegionUse;
using transport::WorkRequest;

/// Posts `count` sends from `first_id`, of which the last is signalled.
void post_sends(const Peer& peer, std::uint64_t first_id, std::size_t count) {
  std::vector<WorkRequest> work;
  for (std::size_t i = 0; i < count; ++i) work.push_back(silent(send(first_id + i)));
  work.back().signalled = true;
  peer.post(work);
}

TEST_P(FabricContract, DisconnectFlushesOurWorkInOrder) {
  Connection pair(fabric());
  pair.client.post_empty_receives(100, 5);
  post_sends(pair.client, 1, 6);  // the server has no receives: they wait
  pair.settle();
  pair.client.endpoint->disconnect();
  ASSERT_TRUE(pair.wait([&] { return pair.client.completions.size() == 11; }));
  EXPECT_EQ(pair.client.ids(1, 99, CompletionStatus::Flushed), from_to(1, 6));
  EXPECT_EQ(pair.client.ids(100, 199, CompletionStatus::Flushed), from_to(100, 104));
}

TEST_P(FabricContract, DisconnectFlushesThePeersWorkInOrder) {
  Connection pair(fabric());
  pair.server.post_empty_receives(100, 5);
  post_sends(pair.server, 1, 6);
  pair.settle();
  pair.client.endpoint->disconnect();
  ASSERT_TRUE(pair.wait([&] { return pair.server.completions.size() == 11; }));
  EXPECT_EQ(pair.server.ids(1, 99, CompletionStatus::Flushed), from_to(1, 6));
  EXPECT_EQ(pair.server.ids(100, 199, CompletionStatus::Flushed), from_to(100, 104));
}

TEST_P(FabricContract, DisconnectIsToldToThePeerOnce) {
  Connection pair(fabric());
  pair.client.endpoint->disconnect();
  pair.client.endpoint->disconnect();
  ASSERT_TRUE(pair.wait([&] { return pair.server.disconnected; }));
  pair.server.endpoint->disconnect();
  pair.client.endpoint->disconnect();
  pair.settle();  // Peer fails the test if it is told anything more
}

TEST_P(FabricContract, ThePassiveSideMayDisconnectToo) {
  Connection pair(fabric());
  pair.client.post_empty_receives(1, 2);
  pair.server.endpoint->disconnect();
  ASSERT_TRUE(pair.wait([&] { return pair.client.disconnected; }));
  ASSERT_TRUE(pair.wait_for(pair.client, {1, 2}));
  EXPECT_EQ(pair.client.find(1)->status, CompletionStatus::Flushed);
}

TEST_P(FabricContract, BothMayDisconnectAtOnce) {
  Connection pair(fabric());
  pair.client.post_empty_receives(1, 1);
  pair.server.post_empty_receives(1, 1);
  pair.client.endpoint->disconnect();
  pair.server.endpoint->disconnect();
  ASSERT_TRUE(pair.wait_for(pair.client, {1}));
  ASSERT_TRUE(pair.wait_for(pair.server, {1}));
  pair.settle();
}

TEST_P(FabricContract, DestroyingAnEndpointTellsThePeer) {
  Connection pair(fabric());
  pair.server.post_empty_receives(1, 1);
  pair.client.endpoint.reset();
  ASSERT_TRUE(fabric().wait_until([&] {
    pair.server.poll();
    return pair.server.disconnected && pair.server.find(1) != nullptr;
  }));
  EXPECT_EQ(pair.server.find(1)->status, CompletionStatus::Flushed);
}

TEST_P(FabricContract, AfterABreakNothingIsExecuted) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer target(pair.server.device(), 4096, RegionUse::RemoteWrite);
  source.fill(0xee);
  pair.client.post({send(1), write_immediate(2, 2, source.local(0, 64), target.remote())});
  pair.settle();
  pair.client.endpoint->disconnect();
  ASSERT_TRUE(pair.wait_for(pair.client, {1, 2}));
  if (!pair.server.is_over()) {  // a receive now comes too late
    EXPECT_TRUE(pair.server.endpoint->post_receives(std::array<transport::ReceiveRequest, 2>{}));
  }
  ASSERT_TRUE(pair.wait([&] { return pair.server.is_over(); }));
  pair.settle();
  for (const auto& completion : pair.server.completions) {
    EXPECT_EQ(completion.status, CompletionStatus::Flushed);
  }
  EXPECT_TRUE(target.is_filled(0));
}

TEST_P(FabricContract, WorkPostedAfterABreakIsFlushedOrRefused) {
  Connection pair(fabric());
  pair.server.post_empty_receives(1, 4);
  pair.client.endpoint->disconnect();
  const std::array work = {silent(send(1)), send(2)};
  if (pair.client.endpoint->post(work)) {
    ASSERT_TRUE(pair.wait_for(pair.client, {1, 2}));
    EXPECT_EQ(pair.client.ids(1, 2, CompletionStatus::Flushed), from_to(1, 2));
  }
  ASSERT_TRUE(pair.wait_for(pair.server, {1, 2, 3, 4}));
  EXPECT_EQ(pair.server.ids(1, 4, CompletionStatus::Flushed), from_to(1, 4));
}

TEST_P(FabricContract, OtherConnectionsLiveOn) {
  Connection broken(fabric());
  Connection whole(fabric());
  whole.server.post_empty_receives(1, 1);
  broken.client.endpoint->disconnect();
  ASSERT_TRUE(broken.wait([&] { return broken.server.is_over(); }));
  whole.client.post({send(1)});
  ASSERT_TRUE(whole.wait_for(whole.client, {1}));
  EXPECT_TRUE(whole.client.succeeded(1));
  EXPECT_FALSE(whole.client.is_over());
}

TEST_P(FabricContract, AClosedQueueIsNoLongerWrittenTo) {
  constexpr std::size_t kSize = 256 * 1024;
  for (const bool disconnect_first : {true, false}) {
    SCOPED_TRACE(disconnect_first);
    Connection pair(fabric());
    const Buffer source(pair.client.device(), kSize, RegionUse::Local);
    const Buffer target(pair.server.device(), kSize, RegionUse::RemoteWrite);
    for (int i = 0; i < 8; ++i) {
      pair.client.post({silent(write(1, source.local(0, kSize), target.remote()))});
    }
    fabric().pump();
    if (disconnect_first) pair.server.endpoint->disconnect();
    pair.server.endpoint->close_queue();
    target.fill(0x11);
    fabric().settle();
    EXPECT_TRUE(target.is_filled(0x11));
  }
}

TEST_P(FabricContract, AClosedQueueSendsNoMore) {
  Connection pair(fabric());
  const Buffer inbox(pair.server.device(), 4096, RegionUse::Local);
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  source.fill(0xee);
  pair.client.post({send(1, source.local(0, 4096))});  // waits for a receive
  fabric().settle();
  pair.client.endpoint->close_queue();
  pair.server.post_receives(std::array{inbox.receive(1, 0, 4096)});
  fabric().settle();
  pair.server.poll();
  EXPECT_FALSE(pair.server.succeeded(1));
  EXPECT_TRUE(inbox.is_filled(0));
}

TEST_P(FabricContract, AQueueMayBeClosedTwice) {
  Connection pair(fabric());
  pair.client.endpoint->disconnect();
  pair.client.endpoint->close_queue();
  pair.client.endpoint->close_queue();
  EXPECT_TRUE(fabric().wait_until([&] { return pair.server.disconnected; }));
}

}  // namespace
}  // namespace rnbd::contract
