// SPDX-License-Identifier: Apache-2.0
// The contract, on windows: keys to a part of a region, for every connection of the device, that
// can be taken back. The client owns the memory, as in RTRS; the server writes.
#include "contract/fabric_contract.h"
#include "contract/peer.h"

namespace rnbd::contract {
namespace {

using transport::CompletionStatus;
using transport::RegionUse;
using transport::RemoteMemory;
using transport::Window;

constexpr std::size_t kTargetSize = 8192;

constexpr transport::QueueSize kBinding = {
    .send_work = Connection::kQueue, .receive_work = Connection::kQueue, .binds = true};

/// A connection whose client has a window to bind.
struct Site {
  explicit Site(FabricUnderTest& fabric) : pair(fabric, kBinding) {
    if (!has_windows()) return;
    target = std::make_unique<Buffer>(pair.client.device(), kTargetSize, RegionUse::WindowTarget);
    source = std::make_unique<Buffer>(pair.server.device(), kTargetSize, RegionUse::Local);
    source->fill(0xee);
    auto made = pair.client.device().make_window();
    if (!made) throw std::runtime_error(describe(made.error()));
    window = std::move(*made);
    pair.client.post_empty_receives(100, 4);
  }

  [[nodiscard]] bool has_windows() const { return pair.client.device().capabilities().windows; }

  /// Binds to that part of the target (nothing: unbinds) and waits until it is done.
  void bind_to(std::size_t offset, std::size_t length) {
    const std::uint64_t id = 1000 + ++binds;
    pair.client.post({bind(id, *window, target->region(), target->local(offset, length))});
    ASSERT_TRUE(pair.wait_for(pair.client, {id}));
    ASSERT_TRUE(pair.client.succeeded(id));
  }

  [[nodiscard]] RemoteMemory at(std::size_t offset, std::uint32_t key) const {
    return {.address = target->remote(offset).address, .key = key};
  }

  /// The server's write of `length` bytes comes out with `status`.
  void write_and_expect(RemoteMemory remote, std::size_t length, CompletionStatus status) {
    write_from(pair, remote, length, status);
  }

  void write_from(Connection& connection, RemoteMemory remote, std::size_t length,
                  CompletionStatus status) {
    const std::uint64_t id = 2000 + ++writes;
    connection.server.post({write(id, source->local(0, length), remote)});
    ASSERT_TRUE(connection.wait_for(connection.server, {id}));
    EXPECT_EQ(connection.server.find(id)->status, status);
    connection.settle();
  }

  Connection pair;
  std::unique_ptr<Buffer> target;
  std::unique_ptr<Buffer> source;
  std::unique_ptr<Window> window;
  std::uint64_t binds = 0;
  std::uint64_t writes = 0;
};

#define SKIP_WITHOUT_WINDOWS(site) \
  if (!(site).has_windows()) GTEST_SKIP() << "the device has no memory windows"

TEST_P(FabricContract, AWindowOpensItsPartAndNoMore) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.bind_to(4096, 1024);
  site.write_and_expect(site.at(4096, site.window->key()), 1024, CompletionStatus::Success);
  EXPECT_EQ(site.target->memory()[4095], std::byte{0});
  EXPECT_EQ(site.target->memory()[4096], std::byte{0xee});
  EXPECT_EQ(site.target->memory()[4096 + 1023], std::byte{0xee});
  site.target->fill(0);
  const std::size_t room = fabric().checks_window_bounds() ? 1024 : kTargetSize - 4096;
  site.write_and_expect(site.at(4096, site.window->key()), room + 1,
                        CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, BeforeAWindowNothingIsRefused) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.bind_to(4096, 1024);
  RemoteMemory before = site.at(fabric().checks_window_bounds() ? 4096 : 0, site.window->key());
  before.address -= 1;
  site.write_and_expect(before, 16, CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, AWindowsRegionIsClosedWithoutIt) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.bind_to(0, kTargetSize);
  site.write_and_expect(site.at(0, site.target->region().remote_key()), 16,
                        CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, AWindowNeverBoundOpensNothing) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.write_and_expect(site.at(0, site.window->key()), 16, CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, AWindowServesAllConnectionsOfItsDevice) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  Connection other(fabric());
  ASSERT_EQ(&other.client.device(), &site.pair.client.device());
  site.bind_to(0, kTargetSize);
  site.write_from(other, site.at(64, site.window->key()), 64, CompletionStatus::Success);
  EXPECT_EQ(site.target->memory()[64], std::byte{0xee});
  EXPECT_EQ(site.target->memory()[0], std::byte{0});
}

TEST_P(FabricContract, UnbindingKillsTheKey) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.bind_to(0, kTargetSize);
  const std::uint32_t key = site.window->key();
  site.bind_to(0, 0);
  site.write_and_expect(site.at(0, key), 16, CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, BindingOverKillsTheOldKey) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.bind_to(0, kTargetSize);
  const std::uint32_t old_key = site.window->key();
  site.bind_to(0, kTargetSize);
  ASSERT_NE(site.window->key(), old_key);
  site.write_and_expect(site.at(0, site.window->key()), 16, CompletionStatus::Success);
  EXPECT_EQ(site.target->memory()[0], std::byte{0xee});
  site.target->fill(0);
  site.write_and_expect(site.at(0, old_key), 16, CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, ADestroyedWindowOpensNothing) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  site.bind_to(0, kTargetSize);
  const std::uint32_t key = site.window->key();
  site.window.reset();
  site.write_and_expect(site.at(0, key), 16, CompletionStatus::RemoteRefused);
  EXPECT_TRUE(site.target->is_filled(0));
}

TEST_P(FabricContract, AKeyIsGoodWhenTheMessageThatBringsItArrives) {
  using Key = Le<std::uint32_t>;
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  const Buffer told(site.pair.client.device(), kTargetSize, RegionUse::Local);
  const Buffer heard(site.pair.server.device(), kTargetSize, RegionUse::Local);
  for (std::uint64_t round = 1; round <= 20; ++round) {
    SCOPED_TRACE(round);
    site.target->fill(0);
    site.pair.server.post_receives(std::array{heard.receive(round, 0, sizeof(Key))});
    transport::WorkRequest over =
        silent(bind(0, *site.window, site.target->region(), site.target->local(0, 512)));
    over.key_to = new (told.memory().data()) Key;
    site.pair.client.post({over, send(round, told.local(0, sizeof(Key)))});
    ASSERT_TRUE(site.pair.wait_for(site.pair.server, {round}));
    const std::uint32_t key = load<Key>(heard.memory());
    EXPECT_EQ(key, site.window->key());
    ASSERT_NO_FATAL_FAILURE(site.write_and_expect(site.at(0, key), 512, CompletionStatus::Success));
    EXPECT_EQ(site.target->memory()[511], std::byte{0xee});
    ASSERT_TRUE(site.pair.wait_for(site.pair.client, {round}));
  }
}

TEST_P(FabricContract, AWindowCannotBeBoundBeyondItsRegion) {
  Site site(fabric());
  SKIP_WITHOUT_WINDOWS(site);
  const auto status = site.pair.client.endpoint->post(std::array{
      bind(1, *site.window, site.target->region(), site.target->local(4096, kTargetSize))});
  if (status) {
    ASSERT_TRUE(site.pair.wait_for(site.pair.client, {1}));
    EXPECT_FALSE(site.pair.client.succeeded(1));
  }
}

TEST_P(FabricContract, MakingAWindowFailsWhereThereAreNone) {
  const Connection pair(fabric());
  transport::Device& device = pair.client.device();
  EXPECT_EQ(device.make_window().has_value(), device.capabilities().windows);
}

}  // namespace
}  // namespace rnbd::contract
