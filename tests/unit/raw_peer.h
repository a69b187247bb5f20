// SPDX-License-Identifier: Apache-2.0
// Peers that speak RTRS by hand, on the bare seam: just enough to come up, and from there whatever
// a test wants to say. Nothing is checked on the way out. One thread; the test polls.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/memory_block.h"
#include "sim/network.h"
#include "transport/rtrs/handshake.h"
#include "transport/rtrs/immediate.h"

namespace rnbd::rtrs::test {

using Bytes = std::vector<std::byte>;

/// One value after the other.
template <typename... Parts>
Bytes join(const Parts&... parts) {
  Bytes result;
  const auto append = [&](std::span<const std::byte> part) {
    result.insert(result.end(), part.begin(), part.end());
  };
  const auto add = [&](const auto& part) {
    if constexpr (std::is_convertible_v<decltype(part), std::span<const std::byte>>) {
      append(part);
    } else {
      append(bytes_of(part));
    }
  };
  (add(parts), ...);
  return result;
}

inline Bytes filled(std::size_t length, std::uint8_t value = 0) {
  return Bytes(length, std::byte{value});
}

/// One end of one connection, of either side.
class RawConnection final : public transport::EndpointEvents {
 public:
  static constexpr std::uint32_t kReceives = 64;
  static constexpr std::uint32_t kReceiveSize = 512;
  static constexpr std::uint32_t kSends = 1024;

  struct Arrival {
    transport::CompletionKind kind;
    std::uint32_t immediate;
    Bytes body;
  };

  /// Sends `private_data` to the listener at `server`, as it is.
  RawConnection(sim::Host& host, const std::string& server, Bytes private_data)
      : request_(std::move(private_data)) {
    auto dialled = host.dial({}, {.text = server, .port = 1234}, *this);
    EXPECT_TRUE(dialled);
    endpoint_ = std::move(*dialled);
  }
  /// Accepts a request with `private_data`.
  RawConnection(std::unique_ptr<transport::Endpoint> endpoint, const Bytes& private_data)
      : endpoint_(std::move(endpoint)) {
    endpoint_->set_events(*this);
    prepare();
    EXPECT_TRUE(endpoint_->accept(private_data));
  }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;
  ~RawConnection() override { close(); }

  void on_resolved() override {
    if (on_device) on_device(endpoint_->device());
    prepare();
    EXPECT_TRUE(endpoint_->connect(request_));
  }
  void on_established(std::span<const std::byte> data) override {
    established = true;
    answer.assign(data.begin(), data.end());
  }
  void on_rejected(std::span<const std::byte> data) override {
    over = rejected = true;
    answer.assign(data.begin(), data.end());
  }
  void on_failed(const Error&) override { over = true; }
  void on_disconnected(const std::string&) override { over = true; }

  /// False: nothing had come.
  bool poll() {
    if (memory_.bytes().empty()) return false;
    std::array<transport::Completion, 16> batch;
    bool any = false;
    for (std::size_t count = endpoint_->poll(batch); count > 0; count = endpoint_->poll(batch)) {
      any = true;
      for (const transport::Completion& completion : std::span(batch).first(count)) {
        handle(completion);
      }
    }
    return any;
  }

  void post(std::vector<transport::WorkRequest> work) {
    for (transport::WorkRequest& one : work) {
      one.signalled = true;
      if (one.source.length > 0) one.source = stage(one.source);
    }
    EXPECT_TRUE(endpoint_->post(work));
  }
  void send(const Bytes& message) {
    post({{.kind = transport::WorkKind::Send, .source = source(message)}});
  }
  void send_immediate(std::uint32_t immediate, const Bytes& message = {}) {
    post({{.kind = transport::WorkKind::SendImmediate,
           .source = source(message),
           .immediate = immediate}});
  }
  void write_immediate(std::uint32_t immediate, const Bytes& message = {},
                       transport::RemoteMemory target = {}) {
    post({{.kind = transport::WorkKind::WriteImmediate,
           .source = source(message),
           .remote = target,
           .immediate = immediate}});
  }
  void write(const Bytes& message, transport::RemoteMemory target) {
    post({{.kind = transport::WorkKind::Write, .source = source(message), .remote = target}});
  }

  void disconnect() { endpoint_->disconnect(); }
  void close() {
    if (endpoint_ == nullptr) return;
    endpoint_->disconnect();
    endpoint_->close_queue();
    region_.reset();
    endpoint_.reset();
    memory_ = {};
  }

  bool established = false;
  bool rejected = false;
  bool over = false;  ///< rejected, failed, disconnected, or broken by a refused access
  Bytes answer;       ///< to the request to connect
  bool reposts = true;
  std::function<void(const Arrival&)> on_arrival;
  std::function<void(transport::Device&)> on_device;  ///< of an active side, once it is known

 private:
  static constexpr std::size_t kStage = 256 << 10;

  void prepare() {
    memory_ = std::move(*MemoryBlock::map(kReceives * kReceiveSize + kStage));
    region_ = std::move(
        *endpoint_->device().register_region(memory_.bytes(), transport::RegionUse::Local));
    EXPECT_TRUE(endpoint_->open_queue({.send_work = kSends, .receive_work = kReceives}));
    for (std::uint32_t i = 0; i < kReceives; ++i) repost(i);
  }
  void repost(std::uint64_t slot) {
    const transport::ReceiveRequest receive{.id = slot,
                                            .address = memory_.bytes().data() + slot * kReceiveSize,
                                            .length = kReceiveSize,
                                            .key = region_->local_key()};
    static_cast<void>(endpoint_->post_receives({&receive, 1}));
  }
  void handle(const transport::Completion& completion) {
    if (completion.status != transport::CompletionStatus::Success) {
      over = true;
      return;
    }
    if (completion.kind == transport::CompletionKind::Done) return;
    const std::byte* const body = memory_.bytes().data() + completion.id * kReceiveSize;
    const bool sent = completion.kind != transport::CompletionKind::WriteImmediate;
    const Arrival arrival{completion.kind, completion.immediate,
                          sent ? Bytes(body, body + completion.length) : Bytes()};
    if (reposts) repost(completion.id);
    if (on_arrival) on_arrival(arrival);
  }
  static transport::LocalMemory source(const Bytes& message) {
    return {message.data(), static_cast<std::uint32_t>(message.size()), 0};
  }
  /// A copy that stays until long after it was sent.
  transport::LocalMemory stage(const transport::LocalMemory& source) {
    if (staged_ + source.length > kStage) staged_ = 0;
    std::byte* const copy = memory_.bytes().data() + kReceives * kReceiveSize + staged_;
    std::copy_n(source.address, source.length, copy);
    staged_ += source.length;
    return {copy, source.length, region_->local_key()};
  }

  Bytes request_;
  MemoryBlock memory_;  ///< [receives][what is being sent]
  std::unique_ptr<transport::Endpoint> endpoint_;
  std::unique_ptr<transport::Region> region_;
  std::size_t staged_ = 0;
};

/// A request as it lies in a chunk.
struct RawRequest {
  std::uint16_t cid = 1;
  std::uint32_t chunk = 0;
  std::uint32_t at = 0;      ///< where `bytes` begin in the chunk
  Bytes bytes;               ///< none: nothing but the immediate
  std::uint32_t offset = 0;  ///< of the RTRS message, for the immediate
};

/// A client that can come up, and send anything.
class RawClient {
 public:
  using Until = std::function<bool(const std::function<bool()>&)>;
  static constexpr int kClosed = -1;  ///< instead of an errno: the server ended the connection
  static constexpr int kSilent = -2;  ///< or did nothing

  RawClient(sim::Host& host, std::string server, Until until)
      : host_(host),
        server_(std::move(server)),
        until_(std::move(until)),
        memory_(std::move(*MemoryBlock::map(64 << 10))) {}

  [[nodiscard]] static ConnectRequest request(std::uint16_t cid, std::uint16_t connections = 3) {
    ConnectRequest request;
    request.cid = cid;
    request.connections = connections;
    request.reconnect_count = 1;
    request.path_uuid = {0xba, 2};
    request.session_uuid = {0xba, 1};
    request.flags = kFirstConnection;
    return request;
  }
  [[nodiscard]] static InfoRequest info(std::string_view name) {
    InfoRequest message;
    std::ranges::copy(name, message.session_name.begin());
    return message;
  }

  bool poll() {
    bool any = false;
    for (const auto& connection : connections_) any |= connection->poll();
    return any;
  }

  /// Dials and waits for the outcome.
  RawConnection& dial(Bytes private_data) {
    connections_.push_back(
        std::make_unique<RawConnection>(host_, server_, std::move(private_data)));
    RawConnection& made = *connections_.back();
    const std::size_t cid = connections_.size() - 1;
    made.on_arrival = [this, cid](const auto& arrival) { on_arrival(cid, arrival); };
    made.on_device = [this](transport::Device& device) { use(device); };
    until_([&] { return made.established || made.over; });
    return made;
  }
  /// All connections of a path, without INFO_REQ.
  bool connect(std::uint16_t connections = 3) {
    for (std::uint16_t cid = 0; cid < connections; ++cid) {
      if (!dial(join(request(cid, connections))).established) return false;
    }
    auto parsed = parse_connect_response(connections_[0]->answer);
    if (!parsed) return false;
    parameters = *parsed;
    return true;
  }
  bool bring_up(std::string_view name = "evil") {
    if (!connect()) return false;
    (*this)[0].send(join(info(name)));
    return until_([&] { return !chunks.empty() || over(); }) && !over();
  }
  /// All of it; whatever the server has of it goes by itself.
  void hang_up() {
    connections_.clear();
    chunks.clear();
    answers.clear();
    unanswered_.clear();
    heartbeats = heartbeat_acks = 0;
  }
  void close() {
    hang_up();
    region_.reset();
  }

  RawConnection& operator[](std::size_t cid) { return *connections_[cid]; }
  [[nodiscard]] bool over() const {
    return std::ranges::any_of(connections_, [](const auto& one) { return one->over; });
  }
  bool is_cut_off() {
    return until_([&] { return over(); });
  }

  // Requests.

  [[nodiscard]] Descriptor room(std::uint32_t length) const {
    Descriptor descriptor;
    descriptor.address = reinterpret_cast<std::uintptr_t>(memory_.bytes().data());
    descriptor.key = region_->remote_key();
    descriptor.length = length;
    return descriptor;
  }
  [[nodiscard]] std::span<std::byte> received() const { return memory_.bytes(); }
  [[nodiscard]] transport::Region& region() { return *region_; }

  static RawRequest write_request(const Bytes& user, const Bytes& data = {}) {
    WriteMessage message;
    message.user_length = static_cast<std::uint16_t>(user.size());
    return {.bytes = join(data, user, message),
            .offset = static_cast<std::uint32_t>(data.size() + user.size())};
  }
  [[nodiscard]] RawRequest read_request(const Bytes& user, std::uint32_t length) const {
    ReadMessage message;
    message.user_length = static_cast<std::uint16_t>(user.size());
    message.descriptors = length > 0 ? 1 : 0;
    return {.at = length,
            .bytes = length > 0 ? join(user, message, room(length)) : join(user, message),
            .offset = length + static_cast<std::uint32_t>(user.size())};
  }

  void post(const RawRequest& request) {
    answers.erase(request.chunk);
    ++unanswered_[request.chunk];
    transport::RemoteMemory target;
    if (request.chunk < chunks.size()) target = chunks[request.chunk];
    target.address += request.at;
    const Immediate immediate(
        ImmediateType::Request,
        ChunkOffset{request.chunk, request.offset}.pack(parameters.queue_depth));
    (*this)[request.cid].write_immediate(immediate.value(), request.bytes, target);
  }
  /// The answer's errno, kClosed or kSilent.
  int ask(const RawRequest& request) {
    post(request);
    return outcome_of(request.chunk);
  }
  int outcome_of(std::uint32_t chunk) {
    until_([&] { return answers.contains(chunk) || over(); });
    if (const auto found = answers.find(chunk); found != answers.end()) return found->second;
    return over() ? kClosed : kSilent;
  }

  ServerParameters parameters;
  std::vector<transport::RemoteMemory> chunks;  ///< once up; keys follow the server's
  std::map<std::uint32_t, int> answers;         ///< by chunk: an errno
  int heartbeats = 0;
  int heartbeat_acks = 0;

 private:
  void on_arrival(std::size_t cid, const RawConnection::Arrival& arrival) {
    if (arrival.kind == transport::CompletionKind::Receive && cid == 0) {
      auto parsed = parse_info_response(arrival.body, parameters);
      EXPECT_TRUE(parsed);
      if (parsed) chunks = std::move(*parsed);
      return;
    }
    if (arrival.kind == transport::CompletionKind::ReceiveInvalidate) return;
    const Immediate immediate = Immediate::from_wire(arrival.immediate);
    switch (immediate.type()) {
      case ImmediateType::Response:
      case ImmediateType::ResponseInvalidated:
        take_answer(Outcome::unpack(immediate.payload()), arrival.body);
        break;
      case ImmediateType::Heartbeat:
        ++heartbeats;
        (*this)[cid].write_immediate(Immediate(ImmediateType::HeartbeatAck, 0).value());
        break;
      case ImmediateType::HeartbeatAck:
        ++heartbeat_acks;
        break;
      case ImmediateType::Request:
      default:
        ADD_FAILURE() << "a server sent immediate " << arrival.immediate;
        break;
    }
  }
  /// The memory for answers is known to the first connection's adapter, which is everybody's.
  void use(transport::Device& device) {
    if (region_ != nullptr) return;
    region_ =
        std::move(*device.register_region(memory_.bytes(), transport::RegionUse::RemoteWrite));
  }
  void take_answer(Outcome outcome, const Bytes& body) {
    EXPECT_LT(outcome.chunk, parameters.queue_depth);
    EXPECT_EQ(body.size(), parameters.new_key ? sizeof(KeyResponse) : 0);
    if (body.size() == sizeof(KeyResponse)) {
      const auto key = load<KeyResponse>(body);
      EXPECT_EQ(key.chunk, outcome.chunk);
      chunks[outcome.chunk].key = key.key;
    }
    EXPECT_GE(--unanswered_[outcome.chunk], 0) << "answered more often than asked";
    answers[outcome.chunk] = static_cast<int>(outcome.error);
  }

  sim::Host& host_;
  std::string server_;
  Until until_;
  std::map<std::uint32_t, int> unanswered_;                  ///< requests by chunk
  MemoryBlock memory_;                                       ///< the server's answers
  std::unique_ptr<transport::Region> region_;                ///< none before the first connection
  std::vector<std::unique_ptr<RawConnection>> connections_;  ///< by cid, or as dialled
};

}  // namespace rnbd::rtrs::test
