// SPDX-License-Identifier: Apache-2.0
#include "client/path_words.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <net/if.h>

#include <fmt/format.h>

namespace rnbd::client {
namespace {

constexpr std::string_view kIp = "ip:";
constexpr std::string_view kGid = "gid:";

/// The numbers of an address in their one spelling; empty if they are not of `family`.
std::string canonical(int family, std::string_view numbers) {
  const std::string text(numbers);
  std::array<std::byte, sizeof(in6_addr)> binary{};
  std::array<char, INET6_ADDRSTRLEN> out{};
  if (::inet_pton(family, text.c_str(), binary.data()) != 1) return {};
  return ::inet_ntop(family, binary.data(), out.data(), out.size());
}

bool is_interface_name(std::string_view name) {
  return !name.empty() && name.size() < IF_NAMESIZE &&
         name.find_first_of("/ @,[]%") == std::string_view::npos;
}

/// "ip:[fe80::1%eth0]" for "fe80::1%eth0"; empty if it is none.
std::string canonical_ipv6(std::string_view text) {
  const auto percent = text.find('%');
  const std::string address = canonical(AF_INET6, text.substr(0, percent));
  if (address.empty()) return {};
  if (percent == std::string_view::npos) return fmt::format("ip:[{}]", address);
  const std::string_view scope = text.substr(percent + 1);
  return is_interface_name(scope) ? fmt::format("ip:[{}%{}]", address, scope) : std::string();
}

std::string canonical_ip(std::string_view text) {
  if (text.starts_with('[') && text.ends_with(']')) {
    return canonical_ipv6(text.substr(1, text.size() - 2));
  }
  const std::string address = canonical(AF_INET, text);
  return address.empty() ? canonical_ipv6(text) : "ip:" + address;
}

Result<std::string> unknown_kind(std::string_view text) {
  const std::string as_ip = canonical_ip(text);
  if (!as_ip.empty()) {
    return fail(EINVAL, fmt::format("'{0}' lacks its kind; did you mean 'ip:{0}'?", text));
  }
  return fail(EINVAL, fmt::format("'{}' is not an address: ip:ADDR or gid:GID", text));
}

/// Addresses that can be the two ends of one path begin alike: "ip:[", "ip:" or "gid:".
std::string_view family(std::string_view address) {
  if (address.starts_with("ip:[")) return "IPv6";
  return address.starts_with(kGid) ? "gid" : "IPv4";
}

Result<PathSpec> make_path(std::string_view source, std::string_view destination) {
  auto from = parse_address(source);
  if (!from) return fail(std::move(from.error()));
  auto to = parse_address(destination);
  if (!to) return fail(std::move(to.error()));
  if (family(*from) != family(*to)) {
    return fail(EINVAL, fmt::format("a path cannot lead from {} ({}) to {} ({})", source,
                                    family(*from), destination, family(*to)));
  }
  return PathSpec{std::move(*from), std::move(*to)};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// A value without '@': "dst" or the kernel's "src,dst".
Result<std::vector<PathSpec>> parse_plain(std::string_view text) {
  const auto parts = split(text, ',');
  if (parts.size() == 1) {
    auto destination = parse_address(text);
    if (!destination) return fail(std::move(destination.error()));
    return std::vector{PathSpec{{}, std::move(*destination)}};
  }
  if (parts.size() > 2) {
    return fail(EINVAL, "several paths in one word are written src@dst,src@dst");
  }
  auto path = make_path(parts[0], parts[1]);
  if (!path) return fail(std::move(path.error()));
  return std::vector{std::move(*path)};
}

}  // namespace

Result<std::string> parse_address(std::string_view text) {
  std::string address;
  if (text.starts_with(kGid)) {
    address = canonical(AF_INET6, text.substr(kGid.size()));
    if (!address.empty()) return fmt::format("gid:{}", address);
    return fail(EINVAL, fmt::format("'{}' is not a GID: gid:fe80::200:5aee:feaa:20a2", text));
  }
  if (!text.starts_with(kIp)) return unknown_kind(text);
  address = canonical_ip(text.substr(kIp.size()));
  if (!address.empty()) return address;
  return fail(EINVAL, fmt::format("'{}' is not an IP address in numbers", text));
}

Result<std::vector<PathSpec>> parse_paths(std::string_view text) {
  if (!text.contains('@')) return parse_plain(text);
  std::vector<PathSpec> paths;
  for (const std::string_view part : split(text, ',')) {
    const auto ends = split(part, '@');
    if (ends.size() != 2) {
      return fail(EINVAL, fmt::format("'{}' is not src@dst; each path of a list is", part));
    }
    auto path = make_path(ends[0], ends[1]);
    if (!path) return fail(std::move(path.error()));
    paths.push_back(std::move(*path));
  }
  return paths;
}

}  // namespace rnbd::client
