// SPDX-License-Identifier: Apache-2.0
// A server that speaks RTRS by hand: it can accept and describe chunks by the book, and each of its
// messages can be replaced by another. One thread; the test polls.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "unit/raw_peer.h"

namespace rnbd::rtrs::test {

class RawServer final : public transport::ListenerEvents {
 public:
  /// A request that came.
  struct Request {
    std::uint16_t cid = 0;
    std::uint32_t chunk = 0;
    std::uint32_t offset = 0;
  };

  RawServer(sim::Host& host, const ServerParameters& offered)
      : parameters(offered),
        memory_(
            std::move(*MemoryBlock::map(std::size_t{offered.queue_depth} * offered.chunk_size()))) {
    auto opened = host.listen({.text = "", .port = 1234}, *this);
    EXPECT_TRUE(opened);
    listener_ = std::move(*opened);
    behave();
  }

  /// Everything by the book again.
  void behave() {
    accept_with = [this](std::uint16_t) { return join(make_accept(parameters)); };
    reject_with = nullptr;
    info_with = [this] { return info_response(); };
    on_info = [this] { (*this)[0].send(info_with()); };
  }

  void on_connect_request(std::unique_ptr<transport::Endpoint> endpoint,
                          std::span<const std::byte> private_data) override {
    const auto request = parse_connect_request(private_data);
    ASSERT_TRUE(request);
    if (region_ == nullptr) {
      region_ = std::move(
          *endpoint->device().register_region(memory_.bytes(), transport::RegionUse::RemoteWrite));
    }
    if (reject_with) {
      endpoint->reject(reject_with());
      return;
    }
    if (request->cid == 0) {
      connections_.clear();  // a new attempt
      requests.clear();
    }
    ASSERT_EQ(request->cid, connections_.size());
    const std::uint16_t cid = request->cid;
    connections_.push_back(std::make_unique<RawConnection>(std::move(endpoint), accept_with(cid)));
    connections_.back()->on_arrival = [this, cid](const auto& arrival) { take(cid, arrival); };
  }

  bool poll() {
    bool any = false;
    for (const auto& connection : connections_) any |= connection->poll();
    return any;
  }
  RawConnection& operator[](std::size_t cid) { return *connections_[cid]; }
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  void stop_listening() { listener_.reset(); }
  void close() {
    listener_.reset();
    connections_.clear();
    region_.reset();
  }

  /// One descriptor for all chunks, or one for each where keys are renewed.
  [[nodiscard]] Bytes info_response() const { return info_response(parameters); }
  [[nodiscard]] Bytes info_response(const ServerParameters& described) const {
    const std::uint32_t count = described.new_key ? described.queue_depth : 1;
    const std::uint32_t length = described.chunk_size() * (described.queue_depth / count);
    InfoResponse head;
    head.descriptors = static_cast<std::uint16_t>(count);
    Bytes message = join(head);
    for (std::uint32_t i = 0; i < count; ++i) message = join(message, descriptor(i, length));
    return message;
  }
  /// The `index`-th of pieces of `length` bytes.
  [[nodiscard]] Descriptor descriptor(std::uint32_t index, std::uint32_t length) const {
    Descriptor part;
    part.address = reinterpret_cast<std::uintptr_t>(memory_.bytes().data()) + index * length;
    part.key = region_->remote_key();
    part.length = length;
    return part;
  }

  [[nodiscard]] static std::uint32_t response(std::uint32_t chunk, std::uint32_t error = 0) {
    return Immediate(ImmediateType::Response, Outcome{chunk, error}.pack()).value();
  }
  [[nodiscard]] KeyResponse next_key(std::uint32_t chunk) const {
    KeyResponse message;
    message.chunk = static_cast<std::uint16_t>(chunk);
    message.key = region_->remote_key();  // it may well stay the same
    return message;
  }
  /// By the book.
  void answer(const Request& request, std::uint32_t error = 0) {
    if (parameters.new_key) {
      (*this)[request.cid].send_immediate(response(request.chunk, error),
                                          join(next_key(request.chunk)));
    } else {
      (*this)[request.cid].write_immediate(response(request.chunk, error));
    }
  }

  ServerParameters parameters;
  std::function<Bytes(std::uint16_t cid)> accept_with;
  std::function<Bytes()> reject_with;  ///< null: accept
  std::function<Bytes()> info_with;
  std::function<void()> on_info;
  std::function<void(const Request&)> on_request;
  std::vector<Request> requests;  ///< of the present connections
  int heartbeats = 0;
  int heartbeat_acks = 0;
  bool answers_heartbeats = true;

 private:
  void take(std::uint16_t cid, const RawConnection::Arrival& arrival) {
    if (arrival.kind == transport::CompletionKind::Receive) {
      EXPECT_TRUE(parse_info_request(arrival.body));
      on_info();
      return;
    }
    const Immediate immediate = Immediate::from_wire(arrival.immediate);
    switch (immediate.type()) {
      case ImmediateType::Request: {
        const auto target = ChunkOffset::unpack(immediate.payload(), parameters.queue_depth);
        requests.push_back({cid, target.chunk, target.offset});
        if (on_request) on_request(requests.back());
        break;
      }
      case ImmediateType::Heartbeat:
        ++heartbeats;
        if (!answers_heartbeats) break;
        (*this)[cid].write_immediate(Immediate(ImmediateType::HeartbeatAck, 0).value());
        break;
      case ImmediateType::HeartbeatAck:
        ++heartbeat_acks;
        break;
      case ImmediateType::Response:
      case ImmediateType::ResponseInvalidated:
      default:
        ADD_FAILURE() << "a client sent immediate " << arrival.immediate;
        break;
    }
  }

  MemoryBlock memory_;                         ///< the chunks
  std::unique_ptr<transport::Region> region_;  ///< none before the first connection
  std::unique_ptr<transport::Listener> listener_;
  std::vector<std::unique_ptr<RawConnection>> connections_;  ///< by cid
};

}  // namespace rnbd::rtrs::test
