// SPDX-License-Identifier: Apache-2.0
// Real verbs under the contract, and what they promise beyond it: both ends on one adapter of this
// host, rxe0 in the test machine. Without an adapter the tests are skipped; if the environment says
// RNBD_REQUIRE_RDMA=1 they fail.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <poll.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "common/clock.h"
#include "contract/fabric_contract.h"
#include "contract/own_addresses.h"
#include "contract/peer.h"
#include "transport/verbs/fabric.h"

namespace rnbd::contract {
namespace {

using transport::verbs::VerbsFabric;

constexpr std::uint16_t kPort = kVerbsPort;

/// An address of this host behind which there is an adapter.
Result<std::string> adapters_address(VerbsFabric& fabric) {
  Nobody nobody;
  if (auto any = fabric.listen({.text = "", .port = kPort}, nobody); !any) {
    return fail(std::move(any.error()));
  }
  const std::vector<std::string> all = adapters_addresses(fabric);
  if (all.empty()) return fail(ENODEV, "no address of this host belongs to an RDMA device");
  return all.front();
}

/// Whether this host has an adapter whose name begins so.
bool has_adapter(const std::string& name = "") {
  std::error_code none;
  return std::ranges::any_of(
      std::filesystem::directory_iterator("/sys/class/infiniband", none),
      [&](const auto& adapter) { return adapter.path().filename().string().starts_with(name); });
}

class VerbsUnderTest final : public FabricUnderTest {
 public:
  static Result<std::unique_ptr<FabricUnderTest>> make() {
    auto fabric = VerbsFabric::create();
    if (!fabric) return fail(std::move(fabric.error()));
    auto address = adapters_address(**fabric);
    if (address) return std::make_unique<VerbsUnderTest>(std::move(*fabric), std::move(*address));
    if (const char* required = std::getenv("RNBD_REQUIRE_RDMA");
        required != nullptr && std::string(required) == "1") {
      return fail(ENXIO, "RNBD_REQUIRE_RDMA=1, but " + describe(address.error()));
    }
    return fail(std::move(address.error()));
  }

  VerbsUnderTest(std::unique_ptr<VerbsFabric> fabric, std::string address)
      : fabric_(std::move(fabric)), address_(std::move(address)) {}

  transport::Fabric& client() override { return *fabric_; }
  transport::Fabric& server() override { return *fabric_; }
  [[nodiscard]] std::string client_address() const override { return address_; }
  [[nodiscard]] std::string server_address() const override { return address_; }
  [[nodiscard]] std::uint16_t port() const override { return kPort; }
  [[nodiscard]] bool checks_window_bounds() const override { return !has_adapter("rxe"); }

  void pump() override {
    constexpr int kMilliseconds = 1;
    pollfd watched{.fd = fabric_->event_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&watched, 1, kMilliseconds) == 1) fabric_->process_events();
  }

 private:
  std::unique_ptr<VerbsFabric> fabric_;
  std::string address_;
};

INSTANTIATE_TEST_SUITE_P(Verbs, FabricContract,
                         testing::Values(ContractParam{"OneAdapter", VerbsUnderTest::make}),
                         param_name);

/// The same, outside of the contract.
class Verbs : public testing::Test {
 protected:
  void SetUp() override {
    auto made = VerbsUnderTest::make();
    if (made) {
      fabric_ = std::move(*made);
    } else if (made.error().code == ENODEV) {
      GTEST_SKIP() << describe(made.error());
    } else {
      FAIL() << describe(made.error());
    }
  }

  FabricUnderTest& fabric() { return *fabric_; }

  Result<std::unique_ptr<transport::Listener>> listen_on(const std::string& text) {
    return fabric().server().listen({.text = text, .port = kPort}, nobody_);
  }

  /// How dialling `address` comes out, to the end of the handshake.
  Error dial_error(const std::string& address) {
    Peer peer;
    auto endpoint = fabric().client().dial({}, {.text = address, .port = kPort}, peer);
    if (!endpoint) return endpoint.error();
    peer.endpoint = std::move(*endpoint);
    peer.then = [&](const std::string& event) {
      if (event != "resolved") return;
      peer.open_queue({.send_work = 1, .receive_work = 1});
      EXPECT_TRUE(peer.endpoint->connect({}));
    };
    EXPECT_TRUE(fabric().wait_until([&] { return peer.is_over(); }));
    return peer.error;
  }

 private:
  Nobody nobody_;
  std::unique_ptr<FabricUnderTest> fabric_;
};

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

TEST(VerbsAddress, SaysWhatIsWrong) {
  using Case = std::pair<const char*, const char*>;
  const std::array wrong = {
      Case{"10.9.0.1", R"(neither "ip:" nor "gid:")"},
      Case{"ip:10.9.0", "neither IPv4 nor IPv6"},
      Case{"ip:[fd09::1", "bracket"},
      Case{"ip:fd09::1]", "bracket"},
      Case{"ip:[10.9.0.1]", "no brackets"},
      Case{"ip:fe80::1", "needs its interface"},
      Case{"ip:fe80::1%nowhere", R"(no network interface "nowhere")"},
      Case{"gid:10.9.0.1", "a GID looks like"},
  };
  auto fabric = VerbsFabric::create();
  ASSERT_TRUE(fabric);
  Nobody nobody;
  for (const auto& [text, why] : wrong) {
    const auto listener = (*fabric)->listen({.text = text, .port = kPort}, nobody);
    ASSERT_FALSE(listener) << text;
    EXPECT_EQ(listener.error().code, EINVAL) << text;
    EXPECT_NE(listener.error().message.find(text), std::string::npos) << text;
    EXPECT_NE(listener.error().message.find(why), std::string::npos) << listener.error().message;
  }
}

TEST(VerbsAddress, SourceAndDestinationAreOfOneKind) {
  auto fabric = VerbsFabric::create();
  ASSERT_TRUE(fabric);
  Peer peer;
  const auto endpoint = (*fabric)->dial({.text = "gid:fe80::1"}, {.text = "ip:10.9.0.1"}, peer);
  ASSERT_FALSE(endpoint);
  EXPECT_EQ(endpoint.error().code, EINVAL);
}

TEST(VerbsWithoutAdapter, SaysHowToGetOne) {
  if (has_adapter()) GTEST_SKIP() << "this host has an RDMA device";
  auto fabric = VerbsFabric::create();
  ASSERT_TRUE(fabric);
  Nobody nobody;
  Peer peer;
  const auto listener = (*fabric)->listen({.text = "", .port = kPort}, nobody);
  const auto endpoint = (*fabric)->dial({}, {.text = "ip:10.9.0.1", .port = kPort}, peer);
  ASSERT_FALSE(listener);
  ASSERT_FALSE(endpoint);
  for (const Error& error : {listener.error(), endpoint.error()}) {
    EXPECT_EQ(error.code, ENODEV);
    EXPECT_NE(error.message.find("modprobe rdma_"), std::string::npos) << error.message;
  }
}

TEST_F(Verbs, ATakenPortIsInUse) {
  const std::string own = fabric().server_address();
  {
    const auto everywhere = listen_on("");
    ASSERT_TRUE(everywhere);
    EXPECT_EQ(listen_on("").error().code, EADDRINUSE);
    EXPECT_EQ(listen_on(own).error().code, EADDRINUSE);
  }
  const auto somewhere = listen_on(own);
  ASSERT_TRUE(somewhere);
  EXPECT_EQ(listen_on("").error().code, EADDRINUSE);
  EXPECT_EQ(listen_on("ip:192.0.2.77").error().code, EADDRNOTAVAIL);
}

TEST_F(Verbs, DiallingAHostWhereNobodyListensIsRefused) {
  EXPECT_EQ(dial_error(fabric().server_address()).code, ECONNREFUSED);
}

TEST_F(Verbs, AGidThatNoAdapterReachesSaysWhy) {
  const Error error = dial_error("gid:fe80::dead:beef");
  EXPECT_NE(error.code, 0);
  EXPECT_NE(error.message.find("InfiniBand"), std::string::npos) << error.message;
}

TEST_F(Verbs, ABreakEndsBothEndsByItself) {
  Connection pair(fabric());
  const Buffer source(pair.client.device(), 4096, transport::RegionUse::Local);
  pair.server.post_empty_receives(1, 1);
  pair.client.post({write(1, source.local(0, 16), {.address = 16, .key = 0x1234})});
  EXPECT_TRUE(pair.wait([&] { return pair.client.disconnected && pair.server.disconnected; }));
}

TEST_F(Verbs, OurDisconnectIsAnsweredByThePeer) {
  Connection pair(fabric());
  const auto before = std::chrono::steady_clock::now();
  pair.client.endpoint->disconnect();
  ASSERT_TRUE(pair.wait([&] { return pair.client.disconnected && pair.server.disconnected; }));
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(4));
}

TEST_F(Verbs, AMissingReceiveCostsNoLongSleep) {
  Connection pair(fabric());
  pair.client.post({send(1)});
  pair.settle();
  const auto before = std::chrono::steady_clock::now();
  pair.server.post_empty_receives(1, 1);
  ASSERT_TRUE(pair.wait_for(pair.server, {1}));
  // The connection manager's own setting sleeps 655 ms at a time, on both ends.
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(300));
}

TEST_F(Verbs, AQueueBeyondTheAdapterIsRefused) {
  Connection pair(fabric());
  const std::uint32_t limit = pair.client.device().capabilities().max_send_work;
  pair.client.endpoint->close_queue();
  const auto refused =
      pair.client.endpoint->open_queue({.send_work = limit + 1, .receive_work = 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EINVAL);
  EXPECT_NE(refused.error().message.find(std::to_string(limit)), std::string::npos);
}

TEST_F(Verbs, ConnectionsLeaveNothingBehind) {
  {
    const Connection warm_up(fabric());
  }
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 100; ++i) {
    Connection pair(fabric());
    if (i % 2 == 0) {
      pair.client.endpoint->disconnect();
      ASSERT_TRUE(pair.wait([&] { return pair.client.disconnected && pair.server.disconnected; }));
    }
  }
  // Queues are destroyed by a thread of their own: some of the warm-up's may have been there.
  const TimePoint deadline = Clock::now() + std::chrono::seconds(10);
  while (open_descriptors() > before && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_LE(open_descriptors(), before);
}

/// From here on this process may lock `bytes` of memory, whoever runs it.
void limit_locked_memory(rlim_t bytes) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  ::syscall(SYS_capget, &header, data.data());
  data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
  ::syscall(SYS_capset, &header, data.data());
  const rlimit limit{.rlim_cur = bytes, .rlim_max = bytes};
  ::setrlimit(RLIMIT_MEMLOCK, &limit);
}

/// Runs in a process of its own, in which nothing was opened before its rights were changed: RDMA
/// descriptors work only with the rights they were opened with.
[[noreturn]] void register_beyond_the_limit() {
  limit_locked_memory(1 << 20);
  auto fabric = VerbsUnderTest::make();
  if (!fabric) {
    std::cerr << describe(fabric.error()) << '\n';
    std::_Exit(1);
  }
  const Connection pair(**fabric);
  std::vector<std::byte> memory(8 << 20);
  const auto region =
      pair.client.device().register_region(memory, transport::RegionUse::RemoteWrite);
  std::cerr << (region ? "registered" : describe(region.error())) << '\n';
  std::_Exit(0);
}

TEST(VerbsDeathTest, ALimitOnLockedMemoryIsNamed) {
  if (!has_adapter()) GTEST_SKIP() << "no RDMA device on this host";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(register_beyond_the_limit(), testing::ExitedWithCode(0),
              "RLIMIT_MEMLOCK.*1048576 bytes.*ENOMEM");
}

}  // namespace
}  // namespace rnbd::contract
