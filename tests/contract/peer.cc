// SPDX-License-Identifier: Apache-2.0
// See peer.h.
#include "contract/peer.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace rnbd::contract {

using transport::Completion;
using transport::CompletionStatus;
using transport::LocalMemory;
using transport::ReceiveRequest;
using transport::RemoteMemory;
using transport::WorkKind;
using transport::WorkRequest;

namespace {

constexpr std::size_t kPage = 4096;

void require(const Status& status) {
  if (!status) throw std::runtime_error(describe(status.error()));
}

template <typename T>
T require(Result<T> result) {
  if (!result) throw std::runtime_error(describe(result.error()));
  return std::move(*result);
}

void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

}  // namespace

std::vector<std::byte> bytes(const std::string& text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

bool carries(std::span<const std::byte> data, const std::string& text) {
  const auto expected = std::as_bytes(std::span(text));
  return data.size() >= expected.size() &&
         std::ranges::equal(data.first(expected.size()), expected) &&
         std::ranges::all_of(data.subspan(expected.size()),
                             [](std::byte byte) { return byte == std::byte{0}; });
}

Buffer::Buffer(transport::Device& device, std::size_t size, transport::RegionUse use)
    : size_(size),
      memory_(
          static_cast<std::byte*>(std::aligned_alloc(kPage, (size + kPage - 1) / kPage * kPage))) {
  require(memory_ != nullptr, "aligned_alloc");
  std::memset(memory_.get(), 0, size);
  region_ = require(device.register_region({memory_.get(), size}, use));
}

LocalMemory Buffer::local(std::size_t offset, std::size_t length) const {
  return {.address = memory_.get() + offset,
          .length = static_cast<std::uint32_t>(length),
          .key = region_->local_key()};
}

RemoteMemory Buffer::remote(std::size_t offset) const {
  return {.address = reinterpret_cast<std::uintptr_t>(memory_.get()) + offset,
          .key = region_->remote_key()};
}

ReceiveRequest Buffer::receive(std::uint64_t id, std::size_t offset, std::size_t length) const {
  return {.id = id,
          .address = memory_.get() + offset,
          .length = static_cast<std::uint32_t>(length),
          .key = region_->local_key()};
}

void Buffer::fill(std::uint8_t value) const { std::ranges::fill(memory(), std::byte{value}); }

bool Buffer::is_filled(std::uint8_t value) const {
  return std::ranges::all_of(memory(), [&](std::byte byte) { return byte == std::byte{value}; });
}

void Peer::open_queue(transport::QueueSize size) const { require(endpoint->open_queue(size)); }

void Peer::post(std::initializer_list<WorkRequest> work) const {
  post(std::span(work.begin(), work.size()));
}

void Peer::post(std::span<const WorkRequest> work) const { require(endpoint->post(work)); }

void Peer::post_receives(std::span<const ReceiveRequest> receives) const {
  require(endpoint->post_receives(receives));
}

void Peer::post_empty_receives(std::uint64_t first_id, std::size_t count) const {
  std::vector<ReceiveRequest> receives(count);
  for (std::size_t i = 0; i < count; ++i) receives[i].id = first_id + i;
  post_receives(receives);
}

void Peer::poll() {
  std::array<Completion, 7> batch;
  while (const std::size_t count = endpoint->poll(batch)) {
    completions.insert(completions.end(), batch.begin(),
                       batch.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

const Completion* Peer::find(std::uint64_t id) const {
  const auto found = std::ranges::find(completions, id, &Completion::id);
  return found == completions.end() ? nullptr : &*found;
}

std::vector<std::uint64_t> Peer::ids(std::uint64_t first, std::uint64_t last,
                                     CompletionStatus status) const {
  std::vector<std::uint64_t> result;
  for (const Completion& completion : completions) {
    if (completion.id < first || completion.id > last) continue;
    if (completion.status != status) return {};
    result.push_back(completion.id);
  }
  return result;
}

bool Peer::succeeded(std::uint64_t id) const {
  const Completion* const completion = find(id);
  return completion != nullptr && completion->status == CompletionStatus::Success;
}

void Peer::note(bool& told, const char* event) {
  EXPECT_FALSE(told) << event << " was told twice";
  EXPECT_FALSE(is_over()) << event << " was told after the last event";
  told = true;
}

void Peer::on_resolved() {
  note(resolved, "on_resolved");
  if (then) then("resolved");
}

void Peer::on_established(std::span<const std::byte> data) {
  note(established, "on_established");
  private_data.assign(data.begin(), data.end());
  if (then) then("established");
}

void Peer::on_rejected(std::span<const std::byte> data) {
  note(rejected, "on_rejected");
  private_data.assign(data.begin(), data.end());
  if (then) then("rejected");
}

void Peer::on_failed(const Error& why) {
  note(failed, "on_failed");
  error = why;
  if (then) then("failed");
}

void Peer::on_disconnected(const std::string&) {
  note(disconnected, "on_disconnected");
  if (then) then("disconnected");
}

void Acceptor::on_connect_request(std::unique_ptr<transport::Endpoint> endpoint,
                                  std::span<const std::byte> data) {
  private_data.assign(data.begin(), data.end());
  if (on_request) {
    on_request(std::move(endpoint));
  } else {
    arrived.push_back(std::move(endpoint));
  }
}

std::unique_ptr<transport::Listener> listen(FabricUnderTest& fabric, Acceptor& acceptor) {
  return require(
      fabric.server().listen({.text = fabric.server_address(), .port = fabric.port()}, acceptor));
}

void dial(FabricUnderTest& fabric, Peer& peer) {
  peer.endpoint =
      require(fabric.client().dial({.text = fabric.client_address()},
                                   {.text = fabric.server_address(), .port = fabric.port()}, peer));
}

Connection::Connection(FabricUnderTest& fabric, transport::QueueSize size) : fabric_(fabric) {
  Acceptor acceptor;
  const auto listener = listen(fabric, acceptor);
  dial(fabric, client);
  require(fabric.wait_until([&] { return client.resolved; }), "the address was not resolved");
  client.open_queue(size);
  require(client.endpoint->connect({}));
  require(fabric.wait_until([&] { return !acceptor.arrived.empty(); }), "no connect request came");
  server.endpoint = std::move(acceptor.arrived.front());
  server.endpoint->set_events(server);
  server.open_queue(size);
  require(server.endpoint->accept({}));
  require(fabric.wait_until([&] { return client.established && server.established; }),
          "no connection was established");
}

bool Connection::wait(const std::function<bool()>& done) {
  return fabric_.wait_until([&] {
    client.poll();
    server.poll();
    return done();
  });
}

bool Connection::wait_for(const Peer& peer, std::initializer_list<std::uint64_t> ids) {
  return wait([&] {
    return std::ranges::all_of(ids, [&](std::uint64_t id) { return peer.find(id) != nullptr; });
  });
}

void Connection::settle() {
  fabric_.settle();
  client.poll();
  server.poll();
}

WorkRequest send(std::uint64_t id, LocalMemory source) {
  return {.kind = WorkKind::Send, .signalled = true, .id = id, .source = source};
}

WorkRequest send_immediate(std::uint64_t id, std::uint32_t immediate, LocalMemory source) {
  return {.kind = WorkKind::SendImmediate,
          .signalled = true,
          .id = id,
          .source = source,
          .immediate = immediate};
}

WorkRequest write(std::uint64_t id, LocalMemory source, RemoteMemory remote) {
  return {.kind = WorkKind::Write, .signalled = true, .id = id, .source = source, .remote = remote};
}

WorkRequest write_immediate(std::uint64_t id, std::uint32_t immediate, LocalMemory source,
                            RemoteMemory remote) {
  return {.kind = WorkKind::WriteImmediate,
          .signalled = true,
          .id = id,
          .source = source,
          .remote = remote,
          .immediate = immediate};
}

WorkRequest bind(std::uint64_t id, transport::Window& window, transport::Region& region,
                 LocalMemory target) {
  return {.kind = WorkKind::BindWindow,
          .signalled = true,
          .id = id,
          .source = target,
          .window = &window,
          .region = &region};
}

WorkRequest silent(WorkRequest work) {
  work.signalled = false;
  return work;
}

std::vector<std::uint64_t> from_to(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> result(last - first + 1);
  std::iota(result.begin(), result.end(), first);
  return result;
}

}  // namespace rnbd::contract
