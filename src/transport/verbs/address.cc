// SPDX-License-Identifier: Apache-2.0
// Addresses (address.h).
#include "transport/verbs/address.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <endian.h>
#include <net/if.h>
#include <netinet/in.h>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <infiniband/ib.h>

namespace rnbd::transport::verbs {

namespace {

static_assert(sizeof(sockaddr_ib) <= sizeof(sockaddr_storage));

constexpr std::uint16_t kFullMemberOfDefaultPartition = 0xffff;

std::unexpected<Error> not_an_address(const Address& address, std::string_view why) {
  return fail(EINVAL, fmt::format(R"("{}" is not an address: {})", address.text, why));
}

template <typename Sockaddr>
Sockaddr view(const sockaddr& address) {
  Sockaddr result{};
  std::memcpy(&result, &address, sizeof(result));
  return result;
}

/// The text without its brackets; nothing if there is only one of them.
std::optional<std::string> unbracketed(std::string_view text) {
  const bool opened = text.starts_with('[');
  const bool closed = text.ends_with(']');
  if (opened != closed) return std::nullopt;
  if (opened) text = text.substr(1, text.size() - 2);
  return std::string(text);
}

sockaddr_ib gid_address(const in6_addr& gid, std::uint16_t port) {
  sockaddr_ib result{};
  result.sib_family = AF_IB;
  result.sib_pkey = htobe16(kFullMemberOfDefaultPartition);
  std::memcpy(&result.sib_addr, &gid, sizeof(gid));
  result.sib_sid = htobe64(std::uint64_t{RDMA_PS_IB} << 16 | port);
  result.sib_sid_mask = htobe64(~std::uint64_t{0});
  return result;
}

/// `host` is the part of `address` that may be "fe80::1%eth0".
Result<sockaddr_in6> ipv6_address(const Address& address, std::string host) {
  sockaddr_in6 result{};
  result.sin6_family = AF_INET6;
  result.sin6_port = htons(address.port);
  if (const auto percent = host.find('%'); percent != std::string::npos) {
    const std::string interface = host.substr(percent + 1);
    result.sin6_scope_id = ::if_nametoindex(interface.c_str());
    if (result.sin6_scope_id == 0) {
      return not_an_address(address,
                            fmt::format(R"(there is no network interface "{}")", interface));
    }
    host.resize(percent);
  }
  if (::inet_pton(AF_INET6, host.c_str(), &result.sin6_addr) != 1) {
    return not_an_address(address, fmt::format(R"("{}" is neither IPv4 nor IPv6)", host));
  }
  if (IN6_IS_ADDR_LINKLOCAL(&result.sin6_addr) && result.sin6_scope_id == 0) {
    return not_an_address(address, "a link-local address needs its interface, as in fe80::1%eth0");
  }
  return result;
}

std::string ipv6_text(const in6_addr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET6, &address, text.data(), text.size());
}

std::string ipv4_text(const void* address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET, address, text.data(), text.size());
}

std::string scoped_text(const sockaddr_in6& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) return ipv4_text(&address.sin6_addr.s6_addr[12]);
  std::string text = ipv6_text(address.sin6_addr);
  std::array<char, IF_NAMESIZE> name{};
  if (address.sin6_scope_id != 0 &&
      ::if_indextoname(address.sin6_scope_id, name.data()) != nullptr) {
    text += fmt::format("%{}", name.data());
  }
  return text;
}

}  // namespace

template <typename Sockaddr>
CmAddress CmAddress::hold(const Sockaddr& address) {
  CmAddress result;
  std::memcpy(&result.storage_, &address, sizeof(address));
  return result;
}

Result<CmAddress> CmAddress::parse(const Address& address) {
  const std::string_view text = address.text;
  const bool gid = text.starts_with("gid:");
  if (!gid && !text.starts_with("ip:")) {
    return not_an_address(address, R"(it begins with neither "ip:" nor "gid:")");
  }
  const auto host = unbracketed(text.substr(gid ? 4 : 3));
  if (!host) return not_an_address(address, "a bracket is missing");

  if (gid) {
    in6_addr raw{};
    if (::inet_pton(AF_INET6, host->c_str(), &raw) != 1) {
      return not_an_address(address, "a GID looks like fe80::2:c903:1:2");
    }
    return hold(gid_address(raw, address.port));
  }
  sockaddr_in v4{};
  if (::inet_pton(AF_INET, host->c_str(), &v4.sin_addr) == 1) {
    if (text.ends_with(']')) return not_an_address(address, "IPv4 addresses have no brackets");
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    return hold(v4);
  }
  auto v6 = ipv6_address(address, *host);
  if (!v6) return fail(std::move(v6.error()));
  return hold(*v6);
}

CmAddress CmAddress::any_ip(std::uint16_t port) {
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(port);
  return hold(any);
}

CmAddress CmAddress::any_gid(std::uint16_t port) { return hold(gid_address(in6addr_any, port)); }

CmAddress CmAddress::with_any_port() const {
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  sockaddr_in address{};
  CmAddress result = *this;
  std::memcpy(&address, &storage_, sizeof(address));
  address.sin_port = 0;
  std::memcpy(&result.storage_, &address, sizeof(address));
  return result;
}

sockaddr* CmAddress::get() {
  static_assert(kGidFamily == AF_IB);
  return reinterpret_cast<sockaddr*>(&storage_);
}

std::string address_text(const sockaddr& address) {
  switch (address.sa_family) {
    case AF_INET: {
      const auto v4 = view<sockaddr_in>(address);
      return fmt::format("ip:{}", ipv4_text(&v4.sin_addr));
    }
    case AF_INET6:
      return fmt::format("ip:{}", scoped_text(view<sockaddr_in6>(address)));
    case AF_IB: {
      const auto ib = view<sockaddr_ib>(address);
      in6_addr gid{};
      std::memcpy(&gid, &ib.sib_addr, sizeof(gid));
      return fmt::format("gid:{}", ipv6_text(gid));
    }
    default:
      return {};
  }
}

}  // namespace rnbd::transport::verbs
