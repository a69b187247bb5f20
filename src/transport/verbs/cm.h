// SPDX-License-Identifier: Apache-2.0
// The connection manager's events. Control thread. An event is copied and acknowledged before
// anybody is told, because destroying an id waits for the acknowledgement: so whoever is told may
// destroy anything, itself too.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "transport/verbs/event_set.h"
#include "transport/verbs/handles.h"

namespace rnbd::transport::verbs {

class CmEvent {
 public:
  explicit CmEvent(const rdma_cm_event& event);

  [[nodiscard]] rdma_cm_event_type type() const { return type_; }
  /// 0, a negative errno, or (Rejected, InfiniBand and RoCE) the peer's reason.
  [[nodiscard]] int status() const { return status_; }
  /// The positive errno; EIO if the event has none.
  [[nodiscard]] int error() const;
  [[nodiscard]] std::span<const std::byte> private_data() const {
    return std::span(private_data_).first(private_data_length_);
  }
  /// ConnectRequest: the new connection.
  CmId take_new_id() { return std::move(new_id_); }

 private:
  rdma_cm_event_type type_;
  int status_;
  CmId new_id_;
  std::size_t private_data_length_ = 0;
  std::array<std::byte, 256> private_data_{};
};

/// Whoever owns an id; the id's context points to it.
class CmSink {
 public:
  virtual ~CmSink() = default;
  virtual void on_cm_event(CmEvent& event) = 0;
};

class CmChannel final : public EventSource {
 public:
  /// Errors: ENODEV, saying how to get an RDMA device.
  static Result<std::unique_ptr<CmChannel>> create(EventSet& events);

  /// `owner` gets the id's events. Errors: those of rdma_create_id.
  Result<CmId> make_id(rdma_port_space space, CmSink& owner);
  /// Makes `owner` the one who gets the events of an id that came with a request.
  static void adopt(const CmId& id, CmSink& owner);

  void on_readable() override;

 private:
  explicit CmChannel(EventChannel channel) : channel_(std::move(channel)) {}

  EventChannel channel_;
};

}  // namespace rnbd::transport::verbs
