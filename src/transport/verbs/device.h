// SPDX-License-Identifier: Apache-2.0
// One adapter: its protection domain, which all connections through it share, and the memory they
// may use. Control thread. The fabric owns it, for its own whole life.
#pragma once

#include <memory>

#include "transport/fabric.h"
#include "transport/verbs/connections.h"
#include "transport/verbs/event_set.h"
#include "transport/verbs/handles.h"

namespace rnbd::transport::verbs {

class VerbsRegion final : public Region {
 public:
  VerbsRegion(MemoryRegion region, std::span<std::byte> memory);
  [[nodiscard]] ibv_mr* raw() const { return region_.get(); }

 private:
  MemoryRegion region_;
};

/// Dies before the region it is bound to.
class VerbsWindow final : public Window {
 public:
  explicit VerbsWindow(MemoryWindow window) : window_(std::move(window)) {}
  [[nodiscard]] std::uint32_t key() const override { return window_->rkey; }
  [[nodiscard]] ibv_mw* raw() const { return window_.get(); }

 private:
  MemoryWindow window_;
};

/// A connection's queue, as the adapter's asynchronous events name it (the context of its queue
/// pair and of its completion queue).
class QueueEvents {
 public:
  virtual ~QueueEvents() = default;
  /// The peer has sent something, although its last message of the handshake has not come.
  virtual void on_traffic() = 0;
  virtual void on_queue_failed(const char* what) = 0;
};

class VerbsDevice final : public Device, public EventSource {
 public:
  /// `context` is one of librdmacm's. Errors: those of ibv_query_device and ibv_alloc_pd.
  static Result<std::unique_ptr<VerbsDevice>> open(ibv_context& context, EventSet& events,
                                                   Connections& connections);

  /// Errors: those of ibv_query_device.
  static Result<Capabilities> capabilities_of(ibv_context& context);

  [[nodiscard]] const Capabilities& capabilities() const override { return capabilities_; }
  Result<std::unique_ptr<Region>> register_region(std::span<std::byte> memory,
                                                  RegionUse use) override;
  Result<std::unique_ptr<Window>> make_window() override;

  [[nodiscard]] ibv_context& context() const { return context_; }
  [[nodiscard]] const ProtectionDomain& domain() const { return domain_; }

  /// Spreads completion interrupts over the vectors there are.
  int next_completion_vector();

  /// The adapter's asynchronous events.
  void on_readable() override;

 private:
  VerbsDevice(ibv_context& context, ContextPin pin, ProtectionDomain domain, EventSet& events,
              Connections& connections);
  Status query();
  void dispatch(const ibv_async_event& event);

  ibv_context& context_;
  ContextPin pin_;
  ProtectionDomain domain_;
  EventSet& events_;
  Connections& connections_;
  Capabilities capabilities_;
  int next_vector_ = 0;
};

}  // namespace rnbd::transport::verbs
