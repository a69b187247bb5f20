// SPDX-License-Identifier: Apache-2.0
#include "common/metrics_address.h"

#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <netinet/in.h>
#include <optional>

#include <fmt/format.h>
#include <sys/un.h>

namespace rnbd {
namespace {

constexpr std::string_view kUnix = "unix:";
constexpr std::string_view kForms = "127.0.0.1:PORT, [::1]:PORT or unix:/PATH";

std::unexpected<Error> makes_no_sense(std::string_view text) {
  return fail(EINVAL, fmt::format("metrics_listen must be {}, not '{}'", kForms, text));
}

std::optional<std::uint16_t> port_in(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

/// Nothing: it is no address.
std::optional<bool> is_loopback(const std::string& ip) {
  in_addr v4{};
  if (::inet_pton(AF_INET, ip.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
  in6_addr v6{};
  if (::inet_pton(AF_INET6, ip.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return std::nullopt;
}

Result<MetricsAddress> parse_unix(std::string_view text) {
  const std::string_view path = text.substr(kUnix.size());
  if (!path.starts_with('/')) return makes_no_sense(text);
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(EINVAL, fmt::format("metrics_listen: a socket's path may have {} bytes",
                                    sizeof(sockaddr_un::sun_path) - 1));
  }
  return MetricsAddress{.path = std::string(path)};
}

}  // namespace

Result<MetricsAddress> parse_metrics_address(std::string_view text) {
  if (text.starts_with(kUnix)) return parse_unix(text);
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return makes_no_sense(text);
  std::string_view host = text.substr(0, colon);
  const bool v6 = host.starts_with('[') && host.ends_with(']');
  if (v6) host = host.substr(1, host.size() - 2);
  MetricsAddress address{.ip = std::string(host)};
  const auto port = port_in(text.substr(colon + 1));
  const auto loopback = is_loopback(address.ip);
  if (!port || !loopback || v6 != host.contains(':')) return makes_no_sense(text);
  if (!*loopback) {
    return fail(EINVAL, fmt::format("metrics_listen takes addresses of the loopback alone ({}), "
                                    "not '{}': it answers everybody who reaches it",
                                    kForms, text));
  }
  address.port = *port;
  return address;
}

Status check_metrics_listen(std::string_view text) {
  if (text.empty()) return {};
  if (const auto address = parse_metrics_address(text); !address) return fail(address.error());
  return {};
}

}  // namespace rnbd
