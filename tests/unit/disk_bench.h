// SPDX-License-Identifier: Apache-2.0
// A whole server but for verbs and io_uring: the acceptor, sessions, dispatcher and exports that
// run in production, over any network, and disks of memory; and a well-behaved client that
// wants to go on working whatever others do. One thread.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/rnbd_wire.h"
#include "server/exports.h"
#include "server/session_peer.h"
#include "sim/manual_control.h"
#include "sim/network.h"
#include "transport/rtrs/client_session.h"
#include "transport/rtrs/server_acceptor.h"
#include "unit/temp_directory.h"

namespace rnbd::server::test {

inline constexpr std::uint32_t kBlock = 4096;
inline constexpr std::uint32_t kMaxIo = 2 * kBlock;
inline constexpr std::uint32_t kDepth = 12;  ///< not a power of two: immediates can name more
inline constexpr std::uint64_t kDiskSize = 1 << 20;

/// What is on the disks, by inode, and whether operations may end.
struct MemoryDisks {
  std::map<ino_t, std::vector<std::byte>> content;
  std::deque<Executor::Task> held;
  bool hold = false;
  std::size_t operations = 0;

  void let_go() {
    hold = false;
    for (Executor::Task& task : std::exchange(held, {})) task();
  }
};

class MemoryStore final : public BlockStore {
 public:
  MemoryStore(Executor& worker, MemoryDisks& disks) : worker_(worker), disks_(disks) {}

  void submit(const StoreOperation& operation, const StoreTarget& target,
              StoreClient& client) override {
    struct stat status{};
    EXPECT_EQ(::fstat(target.fd, &status), 0);
    ++disks_.operations;
    auto run = [this, operation, disk = status.st_ino, &client] {
      execute(operation, disks_.content[disk]);
      client.on_store_done(0);
    };
    if (disks_.hold) {
      disks_.held.push_back([this, run = std::move(run)] { worker_.post(run); });
    } else {
      worker_.post(std::move(run));
    }
  }

 private:
  static void execute(const StoreOperation& operation, std::vector<std::byte>& disk) {
    disk.resize(kDiskSize);
    ASSERT_LE(operation.offset + operation.length, disk.size());
    const auto part = std::span(disk).subspan(operation.offset, operation.length);
    switch (operation.kind) {
      case StoreOperation::Kind::Read:
        std::ranges::copy(part, operation.data);
        break;
      case StoreOperation::Kind::Write:
        std::copy_n(operation.data, operation.length, part.begin());
        break;
      case StoreOperation::Kind::Flush:
        break;
      case StoreOperation::Kind::Discard:
      case StoreOperation::Kind::WriteZeroes:
        std::ranges::fill(part, std::byte{0});
        break;
    }
  }

  Executor& worker_;
  MemoryDisks& disks_;
};

/// Everything between the listener and the disks. Serves the directory `search_path`.
class DiskServer final : public rtrs::ServerSessionEvents, public transport::ListenerEvents {
 public:
  DiskServer(sim::Host& host, bool new_key, const std::string& search_path)
      : host_(host),
        exports(*SearchPath::create(search_path)),
        acceptor(control, {&workers[0], &workers[1]},
                 {.parameters = {.queue_depth = kDepth,
                                 .max_io_size = kMaxIo,
                                 .max_header_size = limits::kHeaderArea,
                                 .new_key = new_key},
                  .limits = rtrs::ClientLimits::of_memory(std::uint64_t{1} << 30)},
                 *this) {
    auto opened = host.listen({.text = "", .port = 1234}, *this);
    EXPECT_TRUE(opened);
    listener = std::move(*opened);
  }

  void on_connect_request(std::unique_ptr<transport::Endpoint> endpoint,
                          std::span<const std::byte> private_data) override {
    acceptor.on_connect_request(
        std::move(endpoint), private_data.first(std::min(shown_private_data, private_data.size())));
  }

  Result<rtrs::RequestHandler*> on_session_named(rtrs::ServerSession& session) override {
    peers.push_back(std::make_unique<SessionPeer>(
        ++sessions_named_, session,
        std::vector<StoreWorker>{{&workers[0], &stores_[0]}, {&workers[1], &stores_[1]}}, control,
        exports, slow_io));
    return &peers.back()->handler();
  }
  void on_session_closed(rtrs::ServerSession& session, Executor::Task done) override {
    const auto peer =
        std::ranges::find_if(peers, [&](const auto& one) { return &one->session() == &session; });
    (*peer)->stop([this, one = peer->get(), done = std::move(done)]() mutable {
      std::erase_if(peers, [one](const auto& other) { return other.get() == one; });
      done();
    });
  }
  void on_session_ended(rtrs::ServerSession&) override {}

  /// All that clients can make the server hold, in words.
  [[nodiscard]] std::string census() const {
    std::size_t paths = 0;
    std::size_t busy = 0;
    for (const auto& session : acceptor.sessions()) {
      paths += session->paths().size();
      busy += session->chunks().busy();
    }
    return fmt::format("{} sessions, {} paths, {} busy chunks, {} peers, {} exports, {}",
                       acceptor.sessions().size(), paths, busy, peers.size(), exports.list().size(),
                       host_.holdings());
  }

 private:
  sim::Host& host_;
  std::uint64_t sessions_named_ = 0;

 public:
  sim::ManualControl control;
  std::array<sim::ManualContext, 2> workers;
  MemoryDisks disks;

 private:
  std::array<MemoryStore, 2> stores_ = {MemoryStore(workers[0], disks),
                                        MemoryStore(workers[1], disks)};

 public:
  Exports exports;
  std::vector<std::unique_ptr<SessionPeer>> peers;
  rtrs::ServerAcceptor acceptor;
  std::unique_ptr<transport::Listener> listener;
  Duration slow_io = Duration::max();  ///< of sessions to come
  /// How much of the private data the acceptor gets to see: iWARP reports true lengths.
  std::size_t shown_private_data = SIZE_MAX;
};

/// Works by the book, on two queues and one disk.
class GoodClient final : public rtrs::SessionEvents,
                         public rtrs::RequestOwner,
                         public rtrs::PermitWaiter {
 public:
  using Until = std::function<bool(const std::function<bool()>&)>;

  GoodClient(sim::Network& fabric, Until until)
      : until_(std::move(until)),
        session(fabric.host("good"), control, {&workers[0], &workers[1]},
                {.name = "good",
                 .paths = {{.route = {.source = {},
                                      .destination = {.text = fabric.host("server").address(),
                                                      .port = 1234}},
                            .uuid = {0x60, 2}}},
                 .session_uuid = {0x60, 1}},
                *this) {}

  /// Connects and opens its disk.
  bool bring_up(const std::string& disk) {
    session.start();
    if (!until_([&] { return ups == 1; })) return false;
    wire::Open open;
    open.header = wire::header(wire::MessageType::Open);
    open.access_mode = std::to_underlying(wire::AccessMode::ReadWrite);
    std::ranges::copy(disk, open.device_name.begin());
    const auto bytes = std::as_bytes(std::span(&open, 1));
    session.send({.direction = rtrs::Direction::Read,
                  .message = {bytes.begin(), bytes.end()},
                  .answer_length = sizeof(wire::OpenResponse),
                  .done = [this](int error, const std::vector<std::byte>& answer) {
                    EXPECT_EQ(error, 0);
                    device_ = load<wire::OpenResponse>(answer).device_id;
                  }});
    return until_([&] { return device_.has_value(); });
  }

  /// Writes something new and reads it back, on each queue.
  bool works() {
    for (std::size_t queue = 0; queue < session.queues(); ++queue) {
      fill_ = static_cast<std::byte>(std::to_integer<unsigned>(fill_) + 1);
      if (transfer(queue, rtrs::Direction::Write) != 0) return false;
      if (transfer(queue, rtrs::Direction::Read) != 0) return false;
    }
    return true;
  }

  void on_session_up() override {
    ++ups;
    session.resume();
  }
  void on_session_down(const Error& error, bool) override {
    ++downs;
    ADD_FAILURE() << "the good client lost its session: " << describe(error);
  }
  void on_request_done(rtrs::PermitId, int error) override { outcome_ = error; }
  void on_request_renewed(rtrs::PermitId, std::span<std::byte>) override {}
  void on_permits_available() override {}

 private:
  /// The answer's errno; -1 if there was none, or other data than was written.
  int transfer(std::size_t index, rtrs::Direction direction) {
    rtrs::SessionQueue& queue = session.queue(index);
    rtrs::PermitId permit = 0;
    if (!queue.acquire({&permit, 1}, *this)) return -1;
    const bool write = direction == rtrs::Direction::Write;
    const auto buffer = queue.buffer(permit).first(kBlock);
    std::ranges::fill(buffer, write ? fill_ : std::byte{0});
    wire::Io io;
    io.header = wire::header(wire::MessageType::Io);
    io.device_id = *device_;
    io.sector = index * kBlock / wire::kSectorSize;
    io.rw = std::to_underlying(write ? wire::Operation::Write : wire::Operation::Read);
    io.size = kBlock;
    outcome_.reset();
    queue.submit(permit, direction, kBlock, std::as_bytes(std::span(&io, 1)), *this);
    const bool answered = until_([&] { return outcome_.has_value(); });
    const bool same = std::ranges::all_of(buffer, [&](std::byte byte) { return byte == fill_; });
    if (answered) queue.release({&permit, 1});
    return answered && same ? *outcome_ : -1;
  }

  Until until_;
  std::optional<std::uint32_t> device_;
  std::optional<int> outcome_;
  std::byte fill_{0};

 public:
  sim::ManualControl control;
  std::array<sim::ManualContext, 2> workers;
  rtrs::ClientSession session;
  int ups = 0;
  int downs = 0;
};

/// The server, the good client, and whoever else polls.
class DiskBench {
 public:
  DiskBench(sim::Network& network, bool new_key)
      : fabric(network),
        server(fabric.host("server"), new_key, directory.path().string()),
        good(fabric, [this](const auto& condition) { return until(condition); }) {
    (void)directory.make_file("good-disk", kDiskSize);
    (void)directory.make_file("disk", kDiskSize);
  }

  bool until(const std::function<bool()>& condition) {
    return sim::run_until(
        [&] {
          poll();
          return condition();
        },
        {&server_control(), &server.workers[0], &server.workers[1], &good.control.context(),
         &good.workers[0], &good.workers[1]},
        fabric);
  }
  void settle() {
    sim::run_until_idle({&server_control(), &server.workers[0], &server.workers[1],
                         &good.control.context(), &good.workers[0], &good.workers[1]},
                        fabric, [this] { return poll(); });
  }
  /// Time goes by, second by second.
  void pass(std::chrono::seconds time) {
    for (auto second = std::chrono::seconds(0); second < time; ++second) {
      sim::advance(std::chrono::seconds(1),
                   {&server.control.context(), &server.workers[0], &server.workers[1],
                    &good.control.context(), &good.workers[0], &good.workers[1]});
      settle();
    }
  }
  /// Ends the good client's session as well, and asserts that nothing is left.
  void end() {
    bool closed = false;
    good.session.close([&] { closed = true; });
    EXPECT_TRUE(until([&] { return closed && server.acceptor.sessions().empty(); }));
    settle();
    EXPECT_TRUE(server.acceptor.sessions().empty());
    EXPECT_TRUE(server.exports.list().empty());
    server.listener.reset();
    EXPECT_EQ(fabric.endpoints(), 0U);
  }

  rnbd::test::TempDirectory directory;
  sim::Network& fabric;
  std::vector<std::function<bool()>> pollers;
  bool control_is_busy = false;  ///< the server's control thread gets nothing done
  DiskServer server;
  GoodClient good;

 private:
  /// In its place, where it is held up, another one.
  sim::ManualContext& server_control() {
    return control_is_busy ? good.control.context() : server.control.context();
  }
  bool poll() {
    bool any = false;
    for (const auto& poll : pollers) any |= poll();
    return any;
  }
};

}  // namespace rnbd::server::test
