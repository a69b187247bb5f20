// SPDX-License-Identifier: Apache-2.0
// Addresses as people write them ("ip:10.9.0.2", "gid:fe80::1") and as librdmacm takes them.
// A plain value.
#pragma once

#include <cstdint>
#include <string>

#include <rdma/rdma_cma.h>
#include <sys/socket.h>

#include "common/result.h"
#include "transport/fabric.h"

namespace rnbd::transport::verbs {

class CmAddress {
 public:
  /// Accepts "ip:1.2.3.4", "ip:fe80::1%eth0", "ip:[fe80::1%eth0]", "gid:fe80::1" and
  /// "gid:[fe80::1]". Errors: EINVAL, naming what is wrong.
  static Result<CmAddress> parse(const Address& address);

  /// Every IPv6 and, where the listener allows it, IPv4 address.
  static CmAddress any_ip(std::uint16_t port);
  /// Every GID.
  static CmAddress any_gid(std::uint16_t port);

  [[nodiscard]] bool is_gid() const { return storage_.ss_family == kGidFamily; }
  [[nodiscard]] rdma_port_space port_space() const { return is_gid() ? RDMA_PS_IB : RDMA_PS_TCP; }
  /// The same with any free port; IP only.
  [[nodiscard]] CmAddress with_any_port() const;
  /// librdmacm takes it without const, but only reads it.
  [[nodiscard]] sockaddr* get();

 private:
  static constexpr sa_family_t kGidFamily = 27;  ///< AF_IB

  template <typename Sockaddr>
  static CmAddress hold(const Sockaddr& address);

  sockaddr_storage storage_{};
};

/// What parse() reads: "ip:10.9.0.2", "ip:fd09::1", "ip:fe80::1%eth0", "gid:fe80::1".
/// An IPv4 address inside an IPv6 one is shown as IPv4. Empty for what is neither.
std::string address_text(const sockaddr& address);

}  // namespace rnbd::transport::verbs
