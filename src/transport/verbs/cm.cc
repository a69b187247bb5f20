// SPDX-License-Identifier: Apache-2.0
// Reading the connection manager's events (cm.h).
#include "transport/verbs/cm.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/log.h"

namespace rnbd::transport::verbs {

CmEvent::CmEvent(const rdma_cm_event& event) : type_(event.event), status_(event.status) {
  if (type_ == RDMA_CM_EVENT_CONNECT_REQUEST) new_id_ = CmId(event.id);
  const auto& connection = event.param.conn;
  if (connection.private_data == nullptr) return;
  private_data_length_ = std::min<std::size_t>(connection.private_data_len, private_data_.size());
  std::memcpy(private_data_.data(), connection.private_data, private_data_length_);
}

int CmEvent::error() const {
  // librdmacm's own failures say -1.
  return status_ == 0 || status_ == -1 ? EIO : std::abs(status_);
}

Result<std::unique_ptr<CmChannel>> CmChannel::create(EventSet& events) {
  auto channel = EventChannel::create();
  if (!channel) return fail(std::move(channel.error()));
  std::unique_ptr<CmChannel> result(new CmChannel(std::move(*channel)));
  if (auto done = events.watch(result->channel_->fd, *result); !done) {
    return fail(std::move(done.error()));
  }
  return result;
}

Result<CmId> CmChannel::make_id(rdma_port_space space, CmSink& owner) {
  return CmId::create(channel_, space, &owner);
}

void CmChannel::adopt(const CmId& id, CmSink& owner) { id->context = &owner; }

void CmChannel::on_readable() {
  for (int i = 0; i < kEventsARound; ++i) {
    rdma_cm_event* raw = nullptr;
    if (rdma_get_cm_event(channel_.get(), &raw) != 0) {
      if (errno != EAGAIN && errno != EINTR) {
        log::error("cannot read RDMA connection events (rdma_get_cm_event): {}", errno_name(errno));
      }
      return;
    }
    CmEvent event(*raw);
    const rdma_cm_id* told = raw->listen_id != nullptr ? raw->listen_id : raw->id;
    auto& sink = *static_cast<CmSink*>(told->context);
    rdma_ack_cm_event(raw);
    sink.on_cm_event(event);
  }
}

}  // namespace rnbd::transport::verbs
