// SPDX-License-Identifier: Apache-2.0
// An adapter's asynchronous events (device.h). Each is acknowledged before anybody is told, because
// destroying a queue waits for the acknowledgement; what it is about is looked up before, because
// from then on the reaper may destroy it.
#include <cerrno>

#include <infiniband/verbs.h>

#include "common/log.h"
#include "transport/verbs/device.h"

namespace rnbd::transport::verbs {

void VerbsDevice::watch(const ibv_qp& pair, const ibv_cq& completions, QueueEvents& owner) {
  owners_[&pair] = &owner;
  owners_[&completions] = &owner;
}

void VerbsDevice::forget(const ibv_qp& pair, const ibv_cq& completions) {
  owners_.erase(&pair);
  owners_.erase(&completions);
}

QueueEvents* VerbsDevice::owner_of(const void* object) const {
  const auto found = owners_.find(object);
  return found == owners_.end() ? nullptr : found->second;
}

void VerbsDevice::on_readable() {
  for (int i = 0; i < kEventsARound; ++i) {
    ibv_async_event event{};
    if (ibv_get_async_event(&context_, &event) != 0) {
      // A device that is gone stays readable for ever and has nothing more to say.
      if (errno != EAGAIN && errno != EINTR) events_.forget(context_.async_fd);
      return;
    }
    // Of a union: the queue pair or completion queue it is about, or a number that is neither.
    QueueEvents* const owner = owner_of(event.element.qp);
    ibv_ack_async_event(&event);
    dispatch(event, owner);
  }
}

void VerbsDevice::dispatch(const ibv_async_event& event, QueueEvents* owner) {
  const char* what = ibv_event_type_str(event.event_type);
  switch (event.event_type) {
    case IBV_EVENT_COMM_EST:
      if (owner != nullptr) owner->on_traffic();
      break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_CQ_ERR:
      if (owner != nullptr) owner->on_queue_failed(what);
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
