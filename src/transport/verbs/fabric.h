// SPDX-License-Identifier: Apache-2.0
// The seam over real adapters, through libibverbs and librdmacm. Control thread; it outlives every
// endpoint, listener, region and window that came from it. Users need no header of those libraries.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "common/result.h"
#include "transport/fabric.h"

namespace rnbd::transport::verbs {

class Core;

struct VerbsOptions {
  /// How long an adapter may wait for a peer's acknowledgement, repeats included, before it breaks
  /// the connection; rounded down to what adapters can be told. They may take several times as
  /// long.
  std::chrono::milliseconds acknowledge_within{600};
};

class VerbsFabric final : public Fabric {
 public:
  /// Works without any RDMA device; only dial() and listen() need one. Errors: those of
  /// epoll_create1(2), eventfd(2) and timerfd_create(2).
  static Result<std::unique_ptr<VerbsFabric>> create(const VerbsOptions& options = {});
  ~VerbsFabric() override;

  /// What each RDMA device of this host can do; empty without any. Errors: those of
  /// ibv_query_device.
  static Result<std::vector<Capabilities>> devices();

  /// A peer that does not answer is given up after 5 s (address) or 10 s (connection).
  Result<std::unique_ptr<Endpoint>> dial(const Address& source, const Address& destination,
                                         EndpointEvents& events) override;
  Result<std::unique_ptr<Listener>> listen(const Address& address, ListenerEvents& events) override;
  void on_link_up(std::function<void()> call) override;

  /// Readable while process_events() has something to do; level triggered.
  [[nodiscard]] int event_fd() const;

  /// Tells a bounded number of events, all of those there unless there are very many. Never blocks.
  void process_events();

 private:
  explicit VerbsFabric(std::unique_ptr<Core> core);

  std::unique_ptr<Core> core_;
};

}  // namespace rnbd::transport::verbs
