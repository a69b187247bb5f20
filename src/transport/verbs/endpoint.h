// SPDX-License-Identifier: Apache-2.0
// One connection. Its owner is whoever dialled, or took it from a listener; it may be destroyed in
// any state, at any time on the control thread, from inside its own events too. Its queue half is
// in queue.h.
//
//   active   Resolving -> Resolved -> Connecting --> Established -> Disconnecting -> Ended
//   passive  Requested -> Accepting --------------^
//
// Accepting may be followed by Disconnecting, and any state by Ended; nothing is told from there
// on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "transport/fabric.h"
#include "transport/verbs/address.h"
#include "transport/verbs/core.h"
#include "transport/verbs/knock.h"
#include "transport/verbs/queue.h"

namespace rnbd::transport::verbs {

class VerbsEndpoint final : public Endpoint, private CmSink, QueueEvents, Connection {
 public:
  /// Begins to resolve `destination`. Errors: as Fabric::dial.
  static Result<std::unique_ptr<VerbsEndpoint>> dial(Core& core, std::optional<CmAddress> source,
                                                     CmAddress destination, std::string where,
                                                     EndpointEvents& events);

  /// Of a request that came with `id`. Errors: those of VerbsDevice::open.
  static Result<std::unique_ptr<VerbsEndpoint>> requested(Core& core, CmId id);

  ~VerbsEndpoint() override;

  void set_events(EndpointEvents& events) override { events_ = &events; }
  [[nodiscard]] Device& device() override;
  Status open_queue(const QueueSize& size) override;
  Status connect(std::span<const std::byte> private_data) override;
  Status accept(std::span<const std::byte> private_data) override;
  void reject(std::span<const std::byte> private_data) override;
  /// The peer is waited for: on_disconnected comes when it has agreed, or after 5 seconds. Before
  /// accept() or on_established, the connection ends silently.
  void disconnect() override;
  void close_queue() override;
  [[nodiscard]] std::string local_address() const override;
  [[nodiscard]] std::string peer_address() const override;

  Status post(std::span<const WorkRequest> work) override { return queue_->post(work); }
  Status post_receives(std::span<const ReceiveRequest> receives) override {
    return queue_->post_receives(receives);
  }
  std::size_t poll(std::span<Completion> out) override { return queue_->poll(out); }
  bool arm() override { return queue_->arm(); }
  [[nodiscard]] int wait_fd() const override { return queue_->wait_fd(); }

 private:
  enum class State : std::uint8_t {
    Resolving,
    Resolved,
    Connecting,
    Requested,
    Accepting,
    Established,
    Disconnecting,
    Ended,
  };

  VerbsEndpoint(Core& core, State state);
  static bool may_follow(State from, State to);
  void enter(State next);

  void on_cm_event(CmEvent& event) override;
  void on_address_resolved();
  void on_route_resolved();
  void on_refused(const CmEvent& event);
  void on_established(const CmEvent& event);
  void on_disconnected();

  void on_traffic() override;
  void on_queue_failed(const char* what) override;
  void on_check(TimePoint now) override;
  void on_device_failed(const VerbsDevice& device) override;
  void on_port_down(const VerbsDevice& device, int port) override;
  [[nodiscard]] TimePoint deadline() const override { return deadline_; }

  void bound_acknowledgements();
  void stop_queue();
  void hang_up();
  void end(const Error& cause);
  void break_off(const Error& cause);

  Core& core_;
  State state_;
  EndpointEvents* events_ = nullptr;
  std::string where_;  ///< who is dialled, for messages
  std::optional<CmAddress> source_;
  std::optional<CmAddress> destination_;  ///< of who is dialled
  std::unique_ptr<HostWatch> watch_;      ///< while Connecting
  TimePoint deadline_ = kNever;
  VerbsDevice* device_ = nullptr;
  CmId id_;
  bool spoken_ = false;           ///< the peer has heard of the connection, or may have
  std::unique_ptr<Queue> queue_;  ///< ends before the id
};

}  // namespace rnbd::transport::verbs
