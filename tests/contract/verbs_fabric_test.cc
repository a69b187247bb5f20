// SPDX-License-Identifier: Apache-2.0
// Real verbs under the contract: both ends on one adapter of this host, rxe0 in the test machine.
// Without an adapter the tests are skipped; if the environment says RNBD_REQUIRE_RDMA=1 they fail.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <vector>

#include "contract/fabric_contract.h"
#include "transport/verbs/fabric.h"

namespace rnbd::contract {
namespace {

using transport::verbs::VerbsFabric;

constexpr std::uint16_t kPort = 12340;

/// "ip:10.9.0.1" for each IPv4 address, and for each IPv6 address that needs no interface.
std::vector<std::string> own_addresses() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  std::vector<std::string> result;
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    const int family = each->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    char text[NI_MAXHOST];
    if (::getnameinfo(each->ifa_addr, size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0 &&
        std::strchr(text, '%') == nullptr) {
      result.push_back(std::string("ip:") + static_cast<const char*>(text));
    }
  }
  ::freeifaddrs(all);
  return result;
}

class Nobody final : public transport::ListenerEvents {
 public:
  void on_connect_request(std::unique_ptr<transport::Endpoint>,
                          std::span<const std::byte>) override {}
};

/// An address of this host behind which there is an adapter.
Result<std::string> adapters_address(VerbsFabric& fabric) {
  Nobody nobody;
  if (auto any = fabric.listen({.text = "", .port = kPort}, nobody); !any) {
    return fail(std::move(any.error()));
  }
  for (const std::string& address : own_addresses()) {
    if (fabric.listen({.text = address, .port = kPort}, nobody)) return address;
  }
  return fail(ENODEV, "no address of this host belongs to an RDMA device");
}

/// Why the running test cannot pass on this host's adapters; empty if it can.
std::string unsupported() {
  constexpr const char* kOnlyOnOthers[] = {"AWindowOpensItsPartAndNoMore/",
                                           "BeforeAWindowNothingIsRefused/"};
  const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
  const bool bounds =
      std::ranges::any_of(kOnlyOnOthers, [&](const char* name) { return test.starts_with(name); });
  if (!bounds) return {};
  std::error_code none;
  for (const auto& device : std::filesystem::directory_iterator("/sys/class/infiniband", none)) {
    if (device.path().filename().string().starts_with("rxe")) {
      // rxe_resp.c, check_rkey(): compares with the bounds of the region.
      return "Linux 6.1's rxe checks the key of a window, but not its bounds";
    }
  }
  return {};
}

class VerbsUnderTest final : public FabricUnderTest {
 public:
  static Result<std::unique_ptr<FabricUnderTest>> make() {
    if (std::string why = unsupported(); !why.empty()) return fail(ENODEV, std::move(why));
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

}  // namespace
}  // namespace rnbd::contract
