// SPDX-License-Identifier: Apache-2.0
// Making and destroying C handles (handles.h).
#include "transport/verbs/handles.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>

#include <fmt/format.h>

#include "common/log.h"

namespace rnbd::transport::verbs {

namespace {

/// ibv_* calls that answer with an int give the errno itself, rdma_* calls give -1 and set errno.
void report(int result, const char* call) {
  if (result == 0) return;
  const int code = result > 0 ? result : errno;
  log::error("{} failed, something stays allocated: {}", call, errno_name(code));
}

/// For the calls that set errno; some providers forget to.
std::unexpected<Error> failed(std::string message) {
  return fail(errno != 0 ? errno : EIO, std::move(message));
}

}  // namespace

void release(rdma_event_channel* channel) { rdma_destroy_event_channel(channel); }
void release(rdma_cm_id* id) { report(rdma_destroy_id(id), "rdma_destroy_id"); }
void release(ibv_context** pinned) { rdma_free_devices(pinned); }
void release(ibv_pd* domain) { report(ibv_dealloc_pd(domain), "ibv_dealloc_pd"); }
void release(ibv_mr* region) { report(ibv_dereg_mr(region), "ibv_dereg_mr"); }
void release(ibv_mw* window) { report(ibv_dealloc_mw(window), "ibv_dealloc_mw"); }
void release(ibv_comp_channel* channel) {
  report(ibv_destroy_comp_channel(channel), "ibv_destroy_comp_channel");
}
void release(ibv_cq* queue) { report(ibv_destroy_cq(queue), "ibv_destroy_cq"); }
void release(ibv_qp* pair) { report(ibv_destroy_qp(pair), "ibv_destroy_qp"); }

Result<EventChannel> EventChannel::create() {
  errno = 0;
  EventChannel channel(rdma_create_event_channel());
  if (!channel) {
    if (errno == ENODEV) {
      return fail(
          ENODEV,
          "no RDMA device on this host; `modprobe rdma_rxe && rdma link add rxe0 type rxe "
          "netdev eth0` makes one of the network interface eth0 (rdma_create_event_channel)");
    }
    if (errno == ENOENT || errno == ENXIO || errno == EPERM) {
      return fail(ENODEV,
                  "the kernel's RDMA connection manager is not there; `modprobe rdma_ucm` loads it "
                  "(rdma_create_event_channel)");
    }
    return failed("cannot reach the RDMA connection manager (rdma_create_event_channel)");
  }
  if (auto done = set_nonblocking(channel->fd); !done) return fail(std::move(done.error()));
  return channel;
}

Result<CmId> CmId::create(const EventChannel& channel, rdma_port_space space, void* context) {
  rdma_cm_id* raw = nullptr;
  if (rdma_create_id(channel.get(), &raw, context, space) != 0) {
    return failed("cannot make a connection identifier (rdma_create_id)");
  }
  return CmId(raw);
}

Result<ContextPin> ContextPin::create() {
  errno = 0;
  ContextPin pin(rdma_get_devices(nullptr));
  if (!pin) return failed("cannot list RDMA devices (rdma_get_devices)");
  return pin;
}

Result<ProtectionDomain> ProtectionDomain::create(ibv_context& context) {
  errno = 0;
  ProtectionDomain domain(ibv_alloc_pd(&context));
  if (!domain) {
    return failed(
        fmt::format("cannot make a protection domain on {} (ibv_alloc_pd)", device_name(context)));
  }
  return domain;
}

Result<MemoryRegion> MemoryRegion::create(const ProtectionDomain& domain, void* memory,
                                          std::size_t length, unsigned access) {
  errno = 0;
  MemoryRegion region(ibv_reg_mr(domain.get(), memory, length, access));
  if (!region) {
    return failed(fmt::format("cannot register {} bytes of memory with {} (ibv_reg_mr)", length,
                              device_name(*domain->context)));
  }
  return region;
}

Result<MemoryWindow> MemoryWindow::create(const ProtectionDomain& domain) {
  errno = 0;
  MemoryWindow window(ibv_alloc_mw(domain.get(), IBV_MW_TYPE_1));
  if (!window) {
    return failed(fmt::format("cannot make a memory window on {} (ibv_alloc_mw)",
                              device_name(*domain->context)));
  }
  return window;
}

Result<CompletionChannel> CompletionChannel::create(ibv_context& context) {
  errno = 0;
  CompletionChannel channel(ibv_create_comp_channel(&context));
  if (!channel) {
    return failed(fmt::format("cannot make a completion channel on {} (ibv_create_comp_channel)",
                              device_name(context)));
  }
  if (auto done = set_nonblocking(channel->fd); !done) return fail(std::move(done.error()));
  return channel;
}

namespace {

Result<CompletionQueue> make_completion_queue(ibv_context& context, std::uint32_t entries,
                                              ibv_comp_channel* channel, int vector,
                                              void* queue_context) {
  errno = 0;
  CompletionQueue queue(
      ibv_create_cq(&context, static_cast<int>(entries), queue_context, channel, vector));
  if (!queue) {
    return failed(fmt::format("cannot make a completion queue of {} entries on {} (ibv_create_cq)",
                              entries, device_name(context)));
  }
  return queue;
}

std::unexpected<Error> no_queue_pair(const ibv_qp_init_attr& attributes,
                                     const ProtectionDomain& domain, std::string_view call) {
  return failed(fmt::format("cannot make a queue pair for {} sends and {} receives on {} ({})",
                            attributes.cap.max_send_wr, attributes.cap.max_recv_wr,
                            device_name(*domain->context), call));
}

}  // namespace

Result<CompletionQueue> CompletionQueue::create(ibv_context& context, std::uint32_t entries,
                                                const CompletionChannel& channel, int vector,
                                                void* queue_context) {
  return make_completion_queue(context, entries, channel.get(), vector, queue_context);
}

Result<CompletionQueue> CompletionQueue::create(ibv_context& context, std::uint32_t entries) {
  return make_completion_queue(context, entries, nullptr, 0, nullptr);
}

Result<QueuePair> QueuePair::create(const CmId& id, const ProtectionDomain& domain,
                                    ibv_qp_init_attr attributes) {
  errno = 0;
  if (rdma_create_qp(id.get(), domain.get(), &attributes) != 0) {
    return no_queue_pair(attributes, domain, "rdma_create_qp");
  }
  return QueuePair(id->qp);
}

Result<QueuePair> QueuePair::create(const ProtectionDomain& domain, ibv_qp_init_attr attributes) {
  errno = 0;
  QueuePair pair(ibv_create_qp(domain.get(), &attributes));
  if (!pair) return no_queue_pair(attributes, domain, "ibv_create_qp");
  return pair;
}

Status set_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    return failed("cannot make a descriptor non-blocking (fcntl)");
  }
  return {};
}

std::string_view device_name(const ibv_context& context) {
  return static_cast<const char*>(context.device->name);
}

}  // namespace rnbd::transport::verbs
