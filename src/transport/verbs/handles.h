// SPDX-License-Identifier: Apache-2.0
// One move-only owner for each C handle of libibverbs and librdmacm. The control thread makes all
// of them, and destroys those that the reaper does not. An error names the call that failed.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "common/result.h"

namespace rnbd::transport::verbs {

/// Owner of a `T`, given back with `Release`.
template <typename T, void (*Release)(T*)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T* raw) : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) reset(std::exchange(other.raw_, nullptr));
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }

  [[nodiscard]] T* get() const { return raw_; }
  T* operator->() const { return raw_; }
  explicit operator bool() const { return raw_ != nullptr; }
  void reset(T* raw = nullptr) {
    if (raw_ != nullptr) Release(raw_);
    raw_ = raw;
  }

 private:
  T* raw_ = nullptr;
};

// A release that fails is a leak that nobody can act upon: it is logged.
void release(rdma_event_channel* channel);
void release(rdma_cm_id* id);
void release(ibv_context** pinned);
void release(ibv_pd* domain);
void release(ibv_mr* region);
void release(ibv_mw* window);
void release(ibv_comp_channel* channel);
void release(ibv_cq* queue);
void release(ibv_qp* pair);

/// Where connection events arrive; non-blocking.
struct EventChannel : Handle<rdma_event_channel, release> {
  using Handle::Handle;
  /// Errors: ENODEV, saying how to get an RDMA device.
  static Result<EventChannel> create();
};

/// One connection or listener, known to the connection manager. Its queue pair dies or is taken
/// from it first.
struct CmId : Handle<rdma_cm_id, release> {
  using Handle::Handle;
  static Result<CmId> create(const EventChannel& channel, rdma_port_space space, void* context);
};

/// Keeps the contexts that librdmacm has open from being closed, unplugged devices' too.
struct ContextPin : Handle<ibv_context*, release> {
  using Handle::Handle;
  static Result<ContextPin> create();
};

struct ProtectionDomain : Handle<ibv_pd, release> {
  using Handle::Handle;
  static Result<ProtectionDomain> create(ibv_context& context);
};

/// No windows are bound to it when it dies.
struct MemoryRegion : Handle<ibv_mr, release> {
  using Handle::Handle;
  static Result<MemoryRegion> create(const ProtectionDomain& domain, void* memory,
                                     std::size_t length, unsigned access);
};

/// Type 1.
struct MemoryWindow : Handle<ibv_mw, release> {
  using Handle::Handle;
  static Result<MemoryWindow> create(const ProtectionDomain& domain);
};

/// Where completion queues signal; non-blocking.
struct CompletionChannel : Handle<ibv_comp_channel, release> {
  using Handle::Handle;
  static Result<CompletionChannel> create(ibv_context& context);
};

/// All of its channel's events have been acknowledged when it dies.
struct CompletionQueue : Handle<ibv_cq, release> {
  using Handle::Handle;
  static Result<CompletionQueue> create(ibv_context& context, std::uint32_t entries,
                                        const CompletionChannel& channel, int vector,
                                        void* queue_context);
  /// One that is polled and never signals.
  static Result<CompletionQueue> create(ibv_context& context, std::uint32_t entries);
};

struct QueuePair : Handle<ibv_qp, release> {
  using Handle::Handle;
  /// One that librdmacm keeps in a CmId, to drive its states.
  static Result<QueuePair> create(const CmId& id, const ProtectionDomain& domain,
                                  ibv_qp_init_attr attributes);
  /// One of which librdmacm knows nothing.
  static Result<QueuePair> create(const ProtectionDomain& domain, ibv_qp_init_attr attributes);
};

/// Errors: those of fcntl(2).
Status set_nonblocking(int fd);

/// "rxe0"
std::string_view device_name(const ibv_context& context);

}  // namespace rnbd::transport::verbs
