// SPDX-License-Identifier: Apache-2.0
// One adapter: its protection domain, which all connections through it share, and the memory they
// may use. Control thread. The fabric owns it, for its own whole life.
#pragma once

#include <map>
#include <memory>

#include "transport/fabric.h"
#include "transport/verbs/connections.h"
#include "transport/verbs/event_set.h"
#include "transport/verbs/handles.h"
#include "transport/verbs/reaper.h"

namespace rnbd::transport::verbs {

/// Its key dies with it, or, where connections have just ended, with the last of these.
class VerbsRegion final : public Region {
 public:
  VerbsRegion(MemoryRegion region, std::span<std::byte> memory, Reaper& reaper);
  ~VerbsRegion() override;
  [[nodiscard]] ibv_mr* raw() const { return region_.get(); }

 private:
  MemoryRegion region_;
  Reaper& reaper_;
};

/// Dies before the region it is bound to.
class VerbsWindow final : public Window {
 public:
  VerbsWindow(MemoryWindow window, Reaper& reaper) : window_(std::move(window)), reaper_(reaper) {}
  ~VerbsWindow() override { reaper_.take_behind(std::move(window_)); }
  [[nodiscard]] std::uint32_t key() const override { return window_->rkey; }
  [[nodiscard]] ibv_mw* raw() const { return window_.get(); }

 private:
  MemoryWindow window_;
  Reaper& reaper_;
};

/// A connection's queue, as the adapter's asynchronous events name it.
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
                                                   Connections& connections, Reaper& reaper);

  /// Errors: those of ibv_query_device.
  static Result<Capabilities> capabilities_of(ibv_context& context);

  [[nodiscard]] const Capabilities& capabilities() const override { return capabilities_; }
  Result<std::unique_ptr<Region>> register_region(std::span<std::byte> memory,
                                                  RegionUse use) override;
  Result<std::unique_ptr<Window>> make_window() override;

  [[nodiscard]] ibv_context& context() const { return context_; }
  [[nodiscard]] const ProtectionDomain& domain() const { return domain_; }
  [[nodiscard]] bool soft_roce() const { return soft_roce_; }  ///< the kernel's rxe driver

  /// Spreads completion interrupts over the vectors there are.
  int next_completion_vector();

  /// From now on `owner` is told of what happens to these two; until forget().
  void watch(const ibv_qp& pair, const ibv_cq& completions, QueueEvents& owner);
  void forget(const ibv_qp& pair, const ibv_cq& completions);

  /// The adapter's asynchronous events.
  void on_readable() override;

 private:
  VerbsDevice(ibv_context& context, ContextPin pin, ProtectionDomain domain, EventSet& events,
              Connections& connections, Reaper& reaper);
  Status query();
  [[nodiscard]] QueueEvents* owner_of(const void* object) const;
  void dispatch(const ibv_async_event& event, QueueEvents* owner);

  ibv_context& context_;
  ContextPin pin_;
  ProtectionDomain domain_;
  EventSet& events_;
  Connections& connections_;
  Reaper& reaper_;
  std::map<const void*, QueueEvents*> owners_;  ///< of queue pairs and completion queues
  Capabilities capabilities_;
  int next_vector_ = 0;
  bool soft_roce_ = false;
};

}  // namespace rnbd::transport::verbs
