// SPDX-License-Identifier: Apache-2.0
// What the in-memory fabric promises beyond the contract: faults, strictness, repeatable runs.
#include "sim/memory_fabric.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "contract/memory_under_test.h"
#include "contract/peer.h"

namespace rnbd::sim {
namespace {

using contract::Acceptor;
using contract::Buffer;
using contract::bytes;
using contract::Connection;
using contract::dial;
using contract::listen;
using contract::MemoryUnderTest;
using contract::Peer;
using contract::send;
using contract::silent;
using contract::write;
using transport::CompletionKind;
using transport::CompletionStatus;
using transport::RegionUse;
using transport::WorkKind;
using transport::WorkRequest;

/// One connection over a fabric of its own.
class MemoryFabricTest : public testing::TestWithParam<std::uint64_t> {
 protected:
  void cut() { network().cut(under_.client_address(), under_.server_address()); }
  void heal() { network().heal(under_.client_address(), under_.server_address()); }
  void run_out_of_retries() {
    network().run_out_of_retries(under_.client_address(), under_.server_address());
  }
  MemoryFabric& network() { return under_.network(); }
  MemoryUnderTest& under() { return under_; }

 private:
  MemoryUnderTest under_{MemoryFabricOptions{.seed = GetParam()}};
};

INSTANTIATE_TEST_SUITE_P(Seeds, MemoryFabricTest, testing::Values(0, 1, 2, 3));

TEST_P(MemoryFabricTest, ACutIsSilentUntilItHeals) {
  Connection pair(under());
  pair.server.post_empty_receives(1, 1);
  cut();
  pair.client.post({send(1)});
  pair.settle();
  EXPECT_TRUE(pair.client.completions.empty());
  EXPECT_TRUE(pair.server.completions.empty());
  heal();
  pair.settle();
  EXPECT_TRUE(pair.server.succeeded(1));
  EXPECT_TRUE(pair.client.succeeded(1));
}

TEST_P(MemoryFabricTest, WithoutRetriesACutBreaksWhoWaitsForAnAnswer) {
  Connection pair(under());
  pair.server.post_empty_receives(1, 1);
  cut();
  pair.client.post({silent(send(1)), send(2)});
  pair.settle();
  run_out_of_retries();
  pair.settle();
  ASSERT_NE(pair.client.find(1), nullptr);
  EXPECT_EQ(pair.client.find(1)->status, CompletionStatus::PeerNotResponding);
  EXPECT_EQ(pair.client.find(2)->status, CompletionStatus::Flushed);
  EXPECT_TRUE(pair.server.completions.empty());  // it waits for nothing, so it learns nothing
  EXPECT_FALSE(pair.server.is_over());

  heal();
  pair.server.post({send(3)});  // nobody is there any more
  pair.settle();
  EXPECT_EQ(pair.server.find(3)->status, CompletionStatus::PeerNotResponding);
}

TEST_P(MemoryFabricTest, ADisconnectAcrossACutIsToldWhenItHeals) {
  Connection pair(under());
  cut();
  pair.client.endpoint->disconnect();
  pair.settle();
  EXPECT_TRUE(pair.client.disconnected);
  EXPECT_FALSE(pair.server.is_over());
  heal();
  pair.settle();
  EXPECT_TRUE(pair.server.disconnected);
}

TEST_P(MemoryFabricTest, ConnectingAcrossACutEndsWithTheRetries) {
  Acceptor acceptor;
  const auto listener = listen(under(), acceptor);
  Peer client;
  dial(under(), client);
  under().settle();
  client.open_queue({.send_work = 1, .receive_work = 1});
  cut();
  ASSERT_TRUE(client.endpoint->connect({}));
  under().settle();
  EXPECT_FALSE(client.is_over());
  run_out_of_retries();
  under().settle();
  EXPECT_TRUE(client.failed);
  EXPECT_EQ(client.error.code, ETIMEDOUT);
  EXPECT_TRUE(acceptor.arrived.empty());
}

TEST_P(MemoryFabricTest, AnAcceptLostInACutFailsOnBothSides) {
  Acceptor acceptor;
  const auto listener = listen(under(), acceptor);
  Peer client;
  dial(under(), client);
  under().settle();
  client.open_queue({.send_work = 1, .receive_work = 1});
  ASSERT_TRUE(client.endpoint->connect({}));
  under().settle();
  ASSERT_EQ(acceptor.arrived.size(), 1U);
  cut();
  Peer server;
  server.endpoint = std::move(acceptor.arrived.front());
  server.endpoint->set_events(server);
  server.open_queue({.send_work = 1, .receive_work = 1});
  ASSERT_TRUE(server.endpoint->accept({}));
  under().settle();
  run_out_of_retries();
  heal();
  under().settle();
  EXPECT_TRUE(client.failed);
  EXPECT_TRUE(server.failed);
}

TEST_P(MemoryFabricTest, ABrokenConnectionIsToldToBothEnds) {
  Connection pair(under());
  pair.client.post_empty_receives(1, 1);
  pair.server.post_empty_receives(1, 1);
  network().break_connections(under().server_address(), under().client_address());
  pair.settle();
  EXPECT_TRUE(pair.client.disconnected);
  EXPECT_TRUE(pair.server.disconnected);
  EXPECT_EQ(pair.client.find(1)->status, CompletionStatus::Flushed);
  EXPECT_EQ(pair.server.find(1)->status, CompletionStatus::Flushed);
}

TEST_P(MemoryFabricTest, ConnectsAreRefusedAsOftenAsAsked) {
  Acceptor acceptor;
  auto listener = listen(under(), acceptor);
  network().refuse_connects(2);
  for (int attempt = 0; attempt < 2; ++attempt) {
    Peer client;
    dial(under(), client);
    under().settle();
    client.open_queue({.send_work = 1, .receive_work = 1});
    ASSERT_TRUE(client.endpoint->connect({}));
    under().settle();
    EXPECT_TRUE(client.failed);
    EXPECT_EQ(client.error.code, ECONNREFUSED);
  }
  listener.reset();
  EXPECT_TRUE(Connection(under()).client.established);
}

TEST_P(MemoryFabricTest, RegisteredMemoryHasALimit) {
  MemoryDevice& device = under().client_host().device();
  device.limit_registered_memory(8192);
  {
    const Buffer first(device, 4096, RegionUse::Local);
    EXPECT_EQ(device.registered_memory(), 4096U);
    std::vector<std::byte> large(4097);
    const auto refused = device.register_region(large, RegionUse::Local);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ENOMEM);
    EXPECT_NE(refused.error().message.find("RLIMIT_MEMLOCK is 8192"), std::string::npos);
  }
  EXPECT_EQ(device.registered_memory(), 0U);
  const Buffer all(device, 8192, RegionUse::Local);
}

TEST_P(MemoryFabricTest, AKeyThatMayBeInvalidatedIsGoneOnceItIs) {
  Connection pair(under());
  const Buffer target(pair.client.device(), 4096, RegionUse::RemoteWrite);
  const Buffer source(pair.server.device(), 4096, RegionUse::Local);
  source.fill(0xee);
  const std::uint32_t key = under().client_host().device().add_invalidatable_key(target.region());
  const transport::RemoteMemory remote{.address = target.remote().address, .key = key};
  pair.client.post_empty_receives(1, 2);
  pair.server.post({write(1, source.local(0, 64), remote),
                    WorkRequest{.kind = WorkKind::SendInvalidate, .id = 2, .remote = {.key = key}},
                    write(3, source.local(0, 64), {.address = remote.address + 64, .key = key})});
  pair.settle();
  ASSERT_NE(pair.client.find(1), nullptr);
  EXPECT_EQ(pair.client.find(1)->kind, CompletionKind::ReceiveInvalidate);
  EXPECT_EQ(pair.client.find(1)->invalidated_key, key);
  EXPECT_EQ(target.memory()[0], std::byte{0xee});
  EXPECT_EQ(pair.server.find(3)->status, CompletionStatus::RemoteRefused);
  EXPECT_EQ(target.memory()[64], std::byte{0});
}

TEST_P(MemoryFabricTest, InvalidatingAnyOtherKeyBreaks) {
  Connection pair(under());
  const Buffer target(pair.client.device(), 4096, RegionUse::RemoteWrite);
  pair.client.post_empty_receives(1, 1);
  pair.server.post({WorkRequest{
      .kind = WorkKind::SendInvalidate, .signalled = true, .id = 1, .remote = target.remote()}});
  pair.settle();
  EXPECT_EQ(pair.server.find(1)->status, CompletionStatus::RemoteRefused);
  EXPECT_EQ(pair.client.find(1)->status, CompletionStatus::Flushed);
}

TEST_P(MemoryFabricTest, ASlotIsTakenUntilItsCompletionIsPolled) {
  Connection pair(under(), {.send_work = 2, .receive_work = 2});
  pair.server.post_empty_receives(1, 2);
  pair.client.post({silent(send(1)), send(2)});
  under().settle();
  pair.client.poll();
  pair.server.poll();
  pair.server.post_empty_receives(3, 2);
  pair.client.post({silent(send(3)), send(4)});
  under().settle();  // done, but nobody has looked
  EXPECT_FALSE(pair.server.endpoint->post_receives(std::array{transport::ReceiveRequest{}}));
  EXPECT_FALSE(pair.client.endpoint->post(std::array{send(5)}));
}

TEST_P(MemoryFabricTest, ChangingPostedMemoryIsNoticed) {
  Connection pair(under());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer inbox(pair.server.device(), 4096, RegionUse::Local);
  pair.server.post_receives(std::array{inbox.receive(1, 0, 64), inbox.receive(2, 64, 64)});
  pair.client.post({send(1, source.local(0, 64))});
  pair.settle();
  EXPECT_EQ(network().changed_sources(), 0U);
  pair.client.post({send(2, source.local(0, 64))});
  source.fill(1);
  pair.settle();
  EXPECT_EQ(network().changed_sources(), 1U);
}

TEST_P(MemoryFabricTest, PrivateDataIsPaddedAsOnInfiniBand) {
  Acceptor acceptor;
  const auto listener = listen(under(), acceptor);
  Peer client;
  dial(under(), client);
  under().settle();
  client.open_queue({.send_work = 1, .receive_work = 1});
  ASSERT_TRUE(client.endpoint->connect(bytes("x")));
  under().settle();
  EXPECT_EQ(acceptor.private_data.size(), 56U);
  acceptor.arrived.front()->reject(bytes("no"));
  under().settle();
  EXPECT_EQ(client.private_data.size(), 148U);
  Peer again;
  dial(under(), again);
  under().settle();
  again.open_queue({.send_work = 1, .receive_work = 1});
  const std::vector<std::byte> too_much(57);
  EXPECT_FALSE(again.endpoint->connect(too_much));
}

TEST_P(MemoryFabricTest, AnUnknownHostIsNotResolved) {
  Peer client;
  auto endpoint = under().client().dial({}, {.text = "ip:10.0.0.200", .port = 1}, client);
  ASSERT_TRUE(endpoint);
  under().settle();
  EXPECT_TRUE(client.failed);
  EXPECT_EQ(client.error.code, EHOSTUNREACH);
}

TEST_P(MemoryFabricTest, AdaptersAreApart) {
  MemoryHost& left = network().host("left", 2);
  MemoryHost& right = network().host("right", 2);
  EXPECT_EQ(left.address(1), "ip:10.0.1.3");
  Acceptor acceptor;
  const auto listener = right.listen({.text = "", .port = 7}, acceptor);
  ASSERT_TRUE(listener);
  Peer client;
  client.endpoint = *left.dial({}, {.text = right.address(1), .port = 7}, client);
  under().settle();
  EXPECT_EQ(&client.device(), &left.device(1));  // the one in the same subnet
  EXPECT_EQ(client.endpoint->local_address(), left.address(1));
  client.open_queue({.send_work = 1, .receive_work = 1});
  ASSERT_TRUE(client.endpoint->connect({}));
  under().settle();
  ASSERT_EQ(acceptor.arrived.size(), 1U);
  EXPECT_EQ(&acceptor.arrived.front()->device(), &right.device(1));
}

TEST(MemoryFabricHosts, MayHaveNoWindows) {
  MemoryUnderTest under({.windows = false});
  EXPECT_FALSE(under.client_host().device().capabilities().windows);
  const auto window = under.client_host().device().make_window();
  ASSERT_FALSE(window);
  EXPECT_EQ(window.error().code, EOPNOTSUPP);
}

TEST(MemoryFabricHosts, WithoutAdaptersHaveNoDevice) {
  MemoryFabric network;
  Peer client;
  const auto endpoint = network.host("poor", 0).dial({}, {.text = "ip:10.0.0.1"}, client);
  ASSERT_FALSE(endpoint);
  EXPECT_EQ(endpoint.error().code, ENODEV);
}

/// In which order two connections' completions come.
std::vector<std::uint64_t> run(std::uint64_t seed) {
  MemoryUnderTest under({.seed = seed});
  Connection first(under);
  Connection second(under);
  std::vector<std::uint64_t> order;
  for (Connection* const pair : {&first, &second}) pair->server.post_empty_receives(0, 8);
  for (std::uint64_t i = 0; i < 8; ++i) {
    first.client.post({send(i)});
    second.client.post({send(100 + i)});
  }
  while (under.network().step()) {
    for (Connection* const pair : {&first, &second}) {
      pair->client.completions.clear();
      pair->client.poll();
      for (const auto& completion : pair->client.completions) order.push_back(completion.id);
    }
  }
  return order;
}

TEST(MemoryFabricSeeds, RepeatTheSameRun) {
  EXPECT_EQ(run(7), run(7));
  EXPECT_EQ(run(0), run(0));
}

TEST(MemoryFabricSeeds, DrawDifferentRuns) { EXPECT_NE(run(7), run(8)); }

}  // namespace
}  // namespace rnbd::sim
