// SPDX-License-Identifier: Apache-2.0
// What the contract's tests play a program with: an end of a connection that records what it is
// told and checks that no event comes twice or late, a listener's end, registered memory, and two
// connected ends. Helpers throw when what they need for the test itself does not work.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "contract/fabric_contract.h"
#include "transport/fabric.h"

namespace rnbd::contract {

/// Bytes of a text.
std::vector<std::byte> bytes(const std::string& text);

/// Whether `data` is `text`, and perhaps zeros behind it.
bool carries(std::span<const std::byte> data, const std::string& text);

/// Memory of whole pages, and its region.
class Buffer {
 public:
  Buffer(transport::Device& device, std::size_t size, transport::RegionUse use);

  [[nodiscard]] std::span<std::byte> memory() const { return {memory_.get(), size_}; }
  [[nodiscard]] transport::Region& region() const { return *region_; }
  [[nodiscard]] transport::LocalMemory local(std::size_t offset, std::size_t length) const;
  [[nodiscard]] transport::RemoteMemory remote(std::size_t offset = 0) const;
  [[nodiscard]] transport::ReceiveRequest receive(std::uint64_t id, std::size_t offset,
                                                  std::size_t length) const;
  void fill(std::uint8_t value) const;
  [[nodiscard]] bool is_filled(std::uint8_t value) const;
  void deregister() { region_.reset(); }  ///< the memory stays

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::size_t size_;
  std::unique_ptr<std::byte, Free> memory_;
  std::unique_ptr<transport::Region> region_;  // dies first
};

/// One end of a connection.
class Peer final : public transport::EndpointEvents {
 public:
  std::unique_ptr<transport::Endpoint> endpoint;
  std::vector<transport::Completion> completions;

  // What was told.
  bool resolved = false;
  bool established = false;
  bool rejected = false;
  bool failed = false;
  bool disconnected = false;
  std::vector<std::byte> private_data;  ///< the peer's
  Error error;

  /// Called at the end of each event, with its name.
  std::function<void(const std::string& event)> then;

  [[nodiscard]] bool is_over() const { return rejected || failed || disconnected; }
  [[nodiscard]] transport::Device& device() const { return endpoint->device(); }

  void open_queue(transport::QueueSize size) const;
  void post(std::initializer_list<transport::WorkRequest> work) const;
  void post(std::span<const transport::WorkRequest> work) const;
  void post_receives(std::span<const transport::ReceiveRequest> receives) const;
  /// `count` receives without memory, numbered from `first_id`.
  void post_empty_receives(std::uint64_t first_id, std::size_t count) const;
  /// Collects completions.
  void poll();

  /// The recorded completion of that id, or nullptr.
  [[nodiscard]] const transport::Completion* find(std::uint64_t id) const;
  /// The ids in [first, last] that completed, in that order, if all of them have `status`.
  [[nodiscard]] std::vector<std::uint64_t> ids(std::uint64_t first, std::uint64_t last,
                                               transport::CompletionStatus status) const;
  [[nodiscard]] bool succeeded(std::uint64_t id) const;

  void on_resolved() override;
  void on_established(std::span<const std::byte> data) override;
  void on_rejected(std::span<const std::byte> data) override;
  void on_failed(const Error& why) override;
  void on_disconnected(const std::string& reason) override;

 private:
  void note(bool& told, const char* event);
};

/// A listening program. Keeps what arrives, unless `on_request` takes it.
class Acceptor final : public transport::ListenerEvents {
 public:
  std::vector<std::unique_ptr<transport::Endpoint>> arrived;
  std::vector<std::byte> private_data;  ///< of the last request
  std::function<void(std::unique_ptr<transport::Endpoint>)> on_request;

  void on_connect_request(std::unique_ptr<transport::Endpoint> endpoint,
                          std::span<const std::byte> data) override;
};

/// A listener on the server's port.
std::unique_ptr<transport::Listener> listen(FabricUnderTest& fabric, Acceptor& acceptor);

/// Dials the server from `peer`; returns at once.
void dial(FabricUnderTest& fabric, Peer& peer);

/// Two connected ends.
class Connection {
 public:
  static constexpr std::uint32_t kQueue = 32;  ///< work requests, each way

  explicit Connection(FabricUnderTest& fabric,
                      transport::QueueSize size = {.send_work = kQueue, .receive_work = kQueue});

  Peer client;
  Peer server;

  /// Polls both ends until `done`; false if the fabric's patience ran out.
  [[nodiscard]] bool wait(const std::function<bool()>& done);
  /// Until `peer` has a completion for each of these.
  [[nodiscard]] bool wait_for(const Peer& peer, std::initializer_list<std::uint64_t> ids);
  /// Polls both ends while everything happens that would.
  void settle();

 private:
  FabricUnderTest& fabric_;
};

// Work requests; signalled unless said otherwise.
transport::WorkRequest send(std::uint64_t id, transport::LocalMemory source = {});
transport::WorkRequest send_immediate(std::uint64_t id, std::uint32_t immediate,
                                      transport::LocalMemory source = {});
transport::WorkRequest write(std::uint64_t id, transport::LocalMemory source,
                             transport::RemoteMemory remote);
transport::WorkRequest write_immediate(std::uint64_t id, std::uint32_t immediate,
                                       transport::LocalMemory source = {},
                                       transport::RemoteMemory remote = {});
transport::WorkRequest bind(std::uint64_t id, transport::Window& window, transport::Region& region,
                            transport::LocalMemory target);
transport::WorkRequest silent(transport::WorkRequest work);

/// All ids from `first` to `last`.
std::vector<std::uint64_t> from_to(std::uint64_t first, std::uint64_t last);

}  // namespace rnbd::contract
