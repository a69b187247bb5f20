// SPDX-License-Identifier: Apache-2.0
// Waits for connections on an address. Control thread; whoever listens owns it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/fabric.h"
#include "transport/verbs/address.h"
#include "transport/verbs/core.h"

namespace rnbd::transport::verbs {

class VerbsListener final : public Listener, private CmSink {
 public:
  /// On every IPv4 and IPv6 address, and on every GID where there are any. Errors: EADDRINUSE,
  /// ENODEV.
  static Result<std::unique_ptr<VerbsListener>> everywhere(Core& core, std::uint16_t port,
                                                           ListenerEvents& events);

  /// Errors: EADDRINUSE, EADDRNOTAVAIL, ENODEV.
  static Result<std::unique_ptr<VerbsListener>> on(Core& core, CmAddress address,
                                                   const std::string& where,
                                                   ListenerEvents& events);

 private:
  VerbsListener(Core& core, ListenerEvents& events) : core_(core), events_(events) {}
  Status add(CmAddress address, const std::string& where);
  Result<CmId> make_id(const CmAddress& address);
  bool can_bind(CmAddress address);
  void on_cm_event(CmEvent& event) override;
  void on_request(CmEvent& event);

  Core& core_;
  ListenerEvents& events_;
  std::vector<CmId> ids_;
};

}  // namespace rnbd::transport::verbs
