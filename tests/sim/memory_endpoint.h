// SPDX-License-Identifier: Apache-2.0
// The connection half of an in-memory connection. What is to be told waits in an inbox and is told
// in order, one notice a step; a notice that crosses the network waits while that is cut. Owned by
// whoever dialled or accepted it; may be destroyed inside any of its own events.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "sim/memory_queue.h"
#include "transport/fabric.h"

namespace rnbd::sim {

class MemoryFabric;

using EndpointId = std::uint64_t;  ///< never used again; 0 is nobody

class MemoryEndpoint final : public transport::Endpoint, private Wire {
 public:
  /// Private data as InfiniBand carries it: never more, and always this much (a peer sees zeros
  /// behind what was sent).
  static constexpr std::size_t kRequestData = 56;
  static constexpr std::size_t kReplyData = 196;
  static constexpr std::size_t kRejectData = 148;

  enum class Phase {
    Resolving,
    Resolved,
    Connecting,  ///< active: asked
    Requested,   ///< passive: was asked
    Accepted,    ///< passive: said yes
    Connected,
    Ending,  ///< ended here, not told yet
    Ended,   ///< everything is told
  };

  /// The active side; tells `failure`, or that it is resolved.
  MemoryEndpoint(MemoryFabric& fabric, MemoryDevice& device, std::string local,
                 transport::Address peer, std::optional<Error> failure);
  /// The passive side of a request by `peer`.
  MemoryEndpoint(MemoryFabric& fabric, MemoryDevice& device, std::string local,
                 const MemoryEndpoint& peer);
  ~MemoryEndpoint() override;

  void set_events(transport::EndpointEvents& events) override;
  [[nodiscard]] transport::Device& device() override { return device_; }
  Status open_queue(const transport::QueueSize& size) override;
  Status connect(std::span<const std::byte> private_data) override;
  Status accept(std::span<const std::byte> private_data) override;
  void reject(std::span<const std::byte> private_data) override;
  void disconnect() override;
  void close_queue() override;
  [[nodiscard]] std::string local_address() const override { return local_; }
  [[nodiscard]] std::string peer_address() const override { return peer_text_; }

  Status post(std::span<const transport::WorkRequest> work) override;
  Status post_receives(std::span<const transport::ReceiveRequest> receives) override;
  std::size_t poll(std::span<transport::Completion> out) override;
  bool arm() override;
  [[nodiscard]] int wait_fd() const override;

  // For MemoryFabric.

  [[nodiscard]] EndpointId id() const { return id_; }
  void answer_with(EndpointId passive) { peer_ = passive; }
  void refuse(const Error& error);  ///< nobody will answer
  void wake();                      ///< tries again what had to wait
  void give_up();                   ///< the retries of everything that has no answer ran out
  void kill(const std::string& reason);
  void stand_still();
  /// Its process is no more; nothing is told here, nor, if `quiet`, to the peer.
  void die(bool quiet);
  void arrive_late(const transport::WorkRequest& work);

 private:
  enum class NoticeKind { Resolved, Reply, Established, Rejected, Failed, Ended };
  struct Notice {
    NoticeKind kind = NoticeKind::Ended;
    bool crosses = false;  ///< comes from the peer, over the network
    std::vector<std::byte> data;
    Error error;
  };

  static bool is_last(NoticeKind kind);  ///< nothing is told behind it

  [[nodiscard]] bool loses() const override;
  [[nodiscard]] bool is_deaf() const override;
  MemoryQueue* far_queue() override;
  [[nodiscard]] bool is_dead() const override;
  void wake_far() override;
  void strand(const transport::WorkRequest& work) override;
  void on_source_changed(const transport::WorkRequest& work) override;

  [[nodiscard]] MemoryEndpoint* peer() const;
  MemoryQueue& queue() const;
  void request();  ///< brings the connect request to whoever listens
  void tell(Notice notice);
  void tell_peer(Notice notice);
  void deliver_one();
  void deliver(Notice notice);
  void end();

  MemoryFabric& fabric_;
  EndpointId id_;
  MemoryDevice& device_;
  std::string local_;
  std::string peer_text_;
  std::uint16_t port_ = 0;
  EndpointId peer_ = 0;
  Phase phase_;
  transport::EndpointEvents* events_ = nullptr;
  std::vector<std::byte> request_data_;
  std::unique_ptr<MemoryQueue> queue_;
  std::deque<Notice> inbox_;
  Agent requesting_;
  Agent delivery_;
};

}  // namespace rnbd::sim
