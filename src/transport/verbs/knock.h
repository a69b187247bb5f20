// SPDX-License-Identifier: Apache-2.0
// Whether a silent host is there again. A connection request that is lost is repeated by the kernel
// only after more than four seconds, and cannot be told from one that a slow server is thinking
// about. So while one waits, the host is asked besides for a connection to a port on which nobody
// listens: the host's connection manager refuses that by itself and at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "transport/verbs/address.h"
#include "transport/verbs/core.h"

namespace rnbd::transport::verbs {

/// One question. Control thread; may be destroyed at any time, in `answered` too.
class Knock final : private CmSink {
 public:
  /// `answered` is called at most once. Errors: those of rdma_create_id and rdma_resolve_addr.
  static Result<std::unique_ptr<Knock>> start(Core& core, std::optional<CmAddress> source,
                                              const CmAddress& destination,
                                              std::function<void()> answered);
  ~Knock() override {
    if (spoken_) core_.quiet_ids().take(std::move(id_));
  }
  Knock(const Knock&) = delete;
  Knock& operator=(const Knock&) = delete;

 private:
  Knock(Core& core, std::function<void()> answered) : core_(core), answered_(std::move(answered)) {}
  void on_cm_event(CmEvent& event) override;

  Core& core_;
  std::function<void()> answered_;
  CmId id_;
  bool spoken_ = false;
};

/// Knocks from time to time while a request to `destination` waits. Control thread; may be
/// destroyed at any time. When a knock is answered and an earlier one is not, though answers come
/// in order, the host was away in between: then it calls what is to be called when a link comes up.
class HostWatch final : private Connection {
 public:
  /// Addresses of kinds that have no ports are not watched. `where`: for messages.
  HostWatch(Core& core, std::optional<CmAddress> source, const CmAddress& destination,
            std::string where);
  ~HostWatch() override;
  HostWatch(const HostWatch&) = delete;
  HostWatch& operator=(const HostWatch&) = delete;

 private:
  void on_check(TimePoint now) override;
  void on_device_failed(const VerbsDevice&) override {}
  void on_port_down(const VerbsDevice&, int) override {}
  [[nodiscard]] TimePoint deadline() const override { return next_; }

  void on_answer(std::uint64_t number);

  Core& core_;
  std::optional<CmAddress> source_;
  CmAddress destination_;
  std::string where_;
  TimePoint next_;
  std::uint64_t knocked_ = 0;
  std::map<std::uint64_t, std::unique_ptr<Knock>> unanswered_;  ///< by number; few
};

}  // namespace rnbd::transport::verbs
