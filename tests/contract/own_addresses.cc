// SPDX-License-Identifier: Apache-2.0
// See own_addresses.h.
#include "contract/own_addresses.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

namespace rnbd::contract {
namespace {

/// "ip:10.9.0.1" for each IPv4 address, then for each IPv6 address that needs no interface.
std::vector<std::string> own_addresses() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  std::vector<std::string> result;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
      if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != family) continue;
      if ((each->ifa_flags & IFF_LOOPBACK) != 0) continue;
      const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
      std::array<char, NI_MAXHOST> text{};
      const int error =
          ::getnameinfo(each->ifa_addr, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
      if (error == 0 && std::strchr(text.data(), '%') == nullptr) {
        result.push_back(std::string("ip:") + text.data());
      }
    }
  }
  ::freeifaddrs(all);
  return result;
}

}  // namespace

std::vector<std::string> adapters_addresses(transport::Fabric& fabric) {
  Nobody nobody;
  if (!fabric.listen({.text = "", .port = kVerbsPort}, nobody)) return {};
  std::vector<std::string> result = own_addresses();
  std::erase_if(result, [&](const std::string& address) {
    return !fabric.listen({.text = address, .port = kVerbsPort}, nobody);
  });
  return result;
}

}  // namespace rnbd::contract
