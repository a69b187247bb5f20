// SPDX-License-Identifier: Apache-2.0
// The contract, on memory: what no key allows is refused, breaks both ends and writes nothing.
#include "contract/fabric_contract.h"
#include "contract/peer.h"

namespace rnbd::contract {
namespace {

using transport::CompletionStatus;
using transport::LocalMemory;
using transport::RegionUse;
using transport::RemoteMemory;
using transport::WorkRequest;

constexpr std::size_t kRegionSize = 8192;

/// A connection whose client is about to do wrong.
struct Crime {
  explicit Crime(FabricUnderTest& fabric)
      : pair(fabric),
        source(pair.client.device(), kRegionSize, RegionUse::Local),
        target(pair.server.device(), kRegionSize, RegionUse::RemoteWrite) {
    source.fill(0xee);
    pair.server.post_empty_receives(100, 4);
    pair.client.post_empty_receives(200, 2);
  }

  /// Posts lawful work before and behind `wrong` (id 2) and expects that only the first is done.
  void commit(const WorkRequest& wrong, CompletionStatus verdict) {
    pair.client.post({write(1, source.local(0, 16), target.remote()), wrong,
                      write_immediate(3, 3, source.local(0, 16), target.remote(4096))});
    ASSERT_TRUE(pair.wait_for(pair.client, {1, 2, 3, 200, 201}));
    EXPECT_TRUE(pair.client.succeeded(1));
    EXPECT_EQ(pair.client.find(2)->status, verdict);
    EXPECT_EQ(pair.client.find(3)->status, CompletionStatus::Flushed);
    EXPECT_EQ(pair.client.find(200)->status, CompletionStatus::Flushed);
    EXPECT_EQ(pair.client.find(201)->status, CompletionStatus::Flushed);
    // Our own error breaks our end only; the peer's learns of it when we disconnect.
    if (verdict == CompletionStatus::LocalError) pair.client.endpoint->disconnect();
    ASSERT_TRUE(pair.wait_for(pair.server, {100, 101, 102, 103}));
    pair.client.endpoint->disconnect();
    ASSERT_TRUE(pair.wait([&] { return pair.server.is_over(); }));
    for (const std::uint64_t id : {100U, 101U, 102U, 103U}) EXPECT_FALSE(pair.server.succeeded(id));
    pair.settle();
    EXPECT_EQ(target.memory()[0], std::byte{0xee});
    for (const std::byte byte : target.memory().subspan(16)) ASSERT_EQ(byte, std::byte{0});
  }

  Connection pair;
  Buffer source;
  Buffer target;
};

RemoteMemory moved(RemoteMemory remote, std::int64_t by) {
  remote.address += static_cast<std::uint64_t>(by);
  return remote;
}

TEST_P(FabricContract, AnUnknownKeyIsRefused) {
  Crime crime(fabric());
  RemoteMemory remote = crime.target.remote(64);
  remote.key ^= 0x5500;
  crime.commit(write(2, crime.source.local(0, 4096), remote), CompletionStatus::RemoteRefused);
}

TEST_P(FabricContract, AnUnknownKeyIsRefusedWithAnImmediateToo) {
  Crime crime(fabric());
  RemoteMemory remote = crime.target.remote(64);
  remote.key ^= 0x5500;
  crime.commit(write_immediate(2, 2, crime.source.local(0, 512), remote),
               CompletionStatus::RemoteRefused);
}

TEST_P(FabricContract, AByteBehindTheEndIsRefused) {
  Crime crime(fabric());
  crime.commit(write(2, crime.source.local(0, 513), crime.target.remote(kRegionSize - 512)),
               CompletionStatus::RemoteRefused);
}

TEST_P(FabricContract, AByteBeforeTheBeginningIsRefused) {
  Crime crime(fabric());
  crime.commit(write(2, crime.source.local(0, 512), moved(crime.target.remote(), -1)),
               CompletionStatus::RemoteRefused);
}

TEST_P(FabricContract, AnAddressAtTheEndOfTheWorldIsRefused) {
  Crime crime(fabric());
  RemoteMemory remote = crime.target.remote();
  remote.address = ~std::uint64_t{0} - 15;
  crime.commit(write(2, crime.source.local(0, 512), remote), CompletionStatus::RemoteRefused);
}

TEST_P(FabricContract, ARegionForLocalUseIsRefused) {
  Crime crime(fabric());
  const Buffer local(crime.pair.server.device(), kRegionSize, RegionUse::Local);
  crime.commit(write(2, crime.source.local(0, 512), local.remote()),
               CompletionStatus::RemoteRefused);
  EXPECT_TRUE(local.is_filled(0));
}

TEST_P(FabricContract, ADeregisteredRegionIsRefused) {
  Crime crime(fabric());
  Buffer former(crime.pair.server.device(), kRegionSize, RegionUse::RemoteWrite);
  const RemoteMemory remote = former.remote();
  former.deregister();
  crime.commit(write(2, crime.source.local(0, 512), remote), CompletionStatus::RemoteRefused);
  EXPECT_TRUE(former.is_filled(0));
}

TEST_P(FabricContract, TheWholeRegionMayBeWritten) {
  Crime crime(fabric());
  crime.pair.client.post(
      {write(1, crime.source.local(0, kRegionSize), crime.target.remote()),
       write_immediate(2, 2, crime.source.local(0, 1), crime.target.remote(kRegionSize - 1))});
  ASSERT_TRUE(crime.pair.wait_for(crime.pair.server, {100}));
  EXPECT_TRUE(crime.pair.server.succeeded(100));
  EXPECT_TRUE(crime.target.is_filled(0xee));
}

TEST_P(FabricContract, OurOwnUnknownKeyIsAnErrorOfOurs) {
  Crime crime(fabric());
  LocalMemory source = crime.source.local(0, 4096);
  source.key ^= 0x5500;
  crime.commit(write(2, source, crime.target.remote(64)), CompletionStatus::LocalError);
}

TEST_P(FabricContract, ReadingBeyondOurOwnRegionIsAnErrorOfOurs) {
  Crime crime(fabric());
  crime.commit(write(2, crime.source.local(kRegionSize - 2048, 4096), crime.target.remote(64)),
               CompletionStatus::LocalError);
}

TEST_P(FabricContract, ASendLongerThanItsReceiveBreaksBothEnds) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, RegionUse::Local);
  const Buffer inbox(pair.server.device(), 4096, RegionUse::Local);
  source.fill(0xee);
  pair.server.post_receives(std::array{inbox.receive(1, 0, 64), inbox.receive(2, 64, 1024)});
  pair.client.post({send(11, source.local(0, 64)), send(12, source.local(0, 1025)), send(13)});
  ASSERT_TRUE(pair.wait_for(pair.client, {11, 12, 13}));
  EXPECT_TRUE(pair.client.succeeded(11));
  EXPECT_EQ(pair.client.find(12)->status, CompletionStatus::RemoteRefused);
  EXPECT_EQ(pair.client.find(13)->status, CompletionStatus::Flushed);
  ASSERT_TRUE(pair.wait_for(pair.server, {1, 2}));
  EXPECT_TRUE(pair.server.succeeded(1));
  EXPECT_FALSE(pair.server.succeeded(2));
}

TEST_P(FabricContract, RegionsHaveTheirMemoryAndKeysOfTheirOwn) {
  const Connection pair(fabric());
  transport::Device& device = pair.client.device();
  const Buffer first(device, kRegionSize, RegionUse::RemoteWrite);
  const Buffer second(device, kRegionSize, RegionUse::RemoteWrite);
  EXPECT_EQ(first.region().memory().size(), kRegionSize);
  EXPECT_NE(first.region().remote_key(), second.region().remote_key());
  EXPECT_NE(first.region().local_key(), second.region().local_key());
  EXPECT_FALSE(device.capabilities().device.empty());
  EXPECT_GE(device.capabilities().max_send_work, Connection::kQueue);
  EXPECT_GE(device.capabilities().max_receive_work, Connection::kQueue);
}

}  // namespace
}  // namespace rnbd::contract
