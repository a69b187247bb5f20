// SPDX-License-Identifier: Apache-2.0
// Listening (listener.h).
#include "transport/verbs/listener.h"

#include <cerrno>

#include <fmt/format.h>

#include "common/log.h"
#include "transport/verbs/endpoint.h"

namespace rnbd::transport::verbs {

namespace {

constexpr int kBacklog = 128;

}  // namespace

Result<std::unique_ptr<VerbsListener>> VerbsListener::everywhere(Core& core, std::uint16_t port,
                                                                 ListenerEvents& events) {
  std::unique_ptr<VerbsListener> listener(new VerbsListener(core, events));
  if (auto done = listener->add(CmAddress::any_ip(port), fmt::format("port {}", port)); !done) {
    return fail(std::move(done.error()));
  }
  if (auto done = listener->add(CmAddress::any_gid(port), "gid: addresses"); !done) {
    log::info("only ip: addresses can be reached here: {}", describe(done.error()));
  }
  return listener;
}

Result<std::unique_ptr<VerbsListener>> VerbsListener::on(Core& core, CmAddress address,
                                                         const std::string& where,
                                                         ListenerEvents& events) {
  std::unique_ptr<VerbsListener> listener(new VerbsListener(core, events));
  if (auto done = listener->add(address, where); !done) return fail(std::move(done.error()));
  return listener;
}

Status VerbsListener::add(CmAddress address, const std::string& where) {
  auto id = make_id(address);
  if (!id) return fail(std::move(id.error()));
  if (rdma_bind_addr(id->get(), address.get()) != 0) {
    int code = errno;
    // The kernel says so too if the port is taken on all addresses, or all are asked for and it is
    // taken on one.
    if (code == EADDRNOTAVAIL && !address.is_gid() && can_bind(address.with_any_port())) {
      code = EADDRINUSE;
    }
    return fail(code, fmt::format("cannot listen on {} (rdma_bind_addr)", where));
  }
  if (rdma_listen(id->get(), kBacklog) != 0) {
    return fail(errno, fmt::format("cannot listen on {} (rdma_listen)", where));
  }
  ids_.push_back(std::move(*id));
  return {};
}

Result<CmId> VerbsListener::make_id(const CmAddress& address) {
  auto channel = core_.channel();
  if (!channel) return fail(std::move(channel.error()));
  auto id = (*channel)->make_id(address.port_space(), *this);
  if (!id || address.is_gid()) return id;
  int only_ipv6 = 0;  // whatever net.ipv6.bindv6only says
  if (rdma_set_option(id->get(), RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &only_ipv6,
                      sizeof(only_ipv6)) != 0) {
    return fail(errno, "cannot listen for IPv4 and IPv6 at once (rdma_set_option)");
  }
  return id;
}

bool VerbsListener::can_bind(CmAddress address) {
  auto id = make_id(address);
  return id && rdma_bind_addr(id->get(), address.get()) == 0;
}

void VerbsListener::on_cm_event(CmEvent& event) {
  switch (event.type()) {
    case RDMA_CM_EVENT_CONNECT_REQUEST:
      on_request(event);
      break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      // Only a listener on one adapter's address is told; it hears nothing from now on.
      log::error("the RDMA device that was listened on is gone");
      break;
    case RDMA_CM_EVENT_ADDR_CHANGE:  // Nothing to a listener.
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_ADDR_RESOLVED:  // Of connections.
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_MULTICAST_JOIN:  // We join nothing.
    case RDMA_CM_EVENT_MULTICAST_ERROR:
      break;
  }
}

void VerbsListener::on_request(CmEvent& event) {
  auto endpoint = VerbsEndpoint::requested(core_, event.take_new_id());
  if (!endpoint) {
    log::error("refused a connection: {}", describe(endpoint.error()));
    return;
  }
  events_.on_connect_request(std::move(*endpoint), event.private_data());
}

}  // namespace rnbd::transport::verbs
