// SPDX-License-Identifier: Apache-2.0
// Nothing is said through a port that is down. The connection manager sends a message when a
// connection is closed, or its request is taken back, and soft-RoCE does not survive a message that
// finds no way (Linux 6.1: the interface was taken down, its routes are gone): the queue pair for
// such messages stops, and nobody connects through that adapter again. Control thread.
#pragma once

#include <vector>

#include "transport/verbs/cm.h"
#include "transport/verbs/connections.h"

namespace rnbd::transport::verbs {

/// Whether the port that `id` was bound to is up. One that is not bound yet, or whose adapter does
/// not say, has nothing to fear.
bool port_is_up(const CmId& id);

/// Identifiers that are to be destroyed once their port is up again.
class QuietIds final : private CmSink, Connection {
 public:
  explicit QuietIds(Connections& connections) : connections_(connections) {}
  /// Destroys them, whatever becomes of the adapter.
  ~QuietIds() override;
  QuietIds(const QuietIds&) = delete;
  QuietIds& operator=(const QuietIds&) = delete;

  /// Destroys `id`, now or later.
  void take(CmId id);

 private:
  void on_cm_event(CmEvent&) override {}
  void on_check(TimePoint now) override;
  void on_device_failed(const VerbsDevice&) override {}
  void on_port_down(const VerbsDevice&, int) override {}
  [[nodiscard]] TimePoint deadline() const override { return next_look_; }

  Connections& connections_;
  std::vector<CmId> ids_;
  TimePoint next_look_ = kNever;
};

}  // namespace rnbd::transport::verbs
