// SPDX-License-Identifier: Apache-2.0
// An adapter's asynchronous events (device.h). Each is acknowledged before anybody is told, because
// destroying a queue waits for the acknowledgement.
#include <cerrno>

#include <infiniband/verbs.h>

#include "common/log.h"
#include "transport/verbs/device.h"

namespace rnbd::transport::verbs {

namespace {

constexpr int kEventsARound = 64;

/// Both contexts are set by Queue. The queue cannot have died since the event was read: both happen
/// on the control thread, and the adapter forgets a dead queue's events.
QueueEvents& owner_of(const ibv_qp& pair) { return *static_cast<QueueEvents*>(pair.qp_context); }
QueueEvents& owner_of(const ibv_cq& queue) { return *static_cast<QueueEvents*>(queue.cq_context); }

}  // namespace

void VerbsDevice::on_readable() {
  for (int i = 0; i < kEventsARound; ++i) {
    ibv_async_event event{};
    if (ibv_get_async_event(&context_, &event) != 0) {
      // A device that is gone stays readable for ever and has nothing more to say.
      if (errno != EAGAIN && errno != EINTR) events_.forget(context_.async_fd);
      return;
    }
    ibv_ack_async_event(&event);
    dispatch(event);
  }
}

void VerbsDevice::dispatch(const ibv_async_event& event) {
  const char* what = ibv_event_type_str(event.event_type);
  switch (event.event_type) {
    case IBV_EVENT_COMM_EST:
      owner_of(*event.element.qp).on_traffic();
      break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_PATH_MIG_ERR:
      owner_of(*event.element.qp).on_queue_failed(what);
      break;
    case IBV_EVENT_CQ_ERR:
      owner_of(*event.element.cq).on_queue_failed(what);
      break;
    case IBV_EVENT_DEVICE_FATAL:
      log::error("{}: {}", capabilities_.device, what);
      connections_.device_failed(*this);
      break;
    case IBV_EVENT_PORT_ERR:
      // The adapter would repeat what is lost until its patience is over. Others may be faster, and
      // who has no other loses no more than the time of a new handshake.
      log::warn("{}: port {}: {}", capabilities_.device, event.element.port_num, what);
      connections_.port_down(*this, event.element.port_num);
      break;
    case IBV_EVENT_PORT_ACTIVE:
      log::info("{}: port {}: {}", capabilities_.device, event.element.port_num, what);
      connections_.link_up();
      break;
    case IBV_EVENT_GID_CHANGE:  // an address came or went
      connections_.link_up();
      break;
    case IBV_EVENT_LID_CHANGE:
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
    case IBV_EVENT_SQ_DRAINED:  // We neither drain that way nor name alternate paths.
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_SRQ_ERR:  // We have neither shared receive queues nor work queues.
    case IBV_EVENT_SRQ_LIMIT_REACHED:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
    case IBV_EVENT_WQ_FATAL:
      break;
  }
}

}  // namespace rnbd::transport::verbs
