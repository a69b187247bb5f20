// SPDX-License-Identifier: Apache-2.0
// Both halves of the protocol engine on one thread over the in-memory fabric: a server whose disk
// is an array, and clients with two queues. The very code that runs over verbs.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/endian.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "transport/rtrs/client_session.h"
#include "transport/rtrs/server_acceptor.h"

namespace rnbd::rtrs::test {

inline constexpr std::size_t kBlock = 4096;

/// The user message of these tests.
struct DiskMessage {
  Le<std::uint32_t> block;
  Le<std::uint32_t> error;  ///< to be answered with, if not 0
};

/// Executes at once, or when told to.
class ArrayDisk final : public RequestHandler {
 public:
  void on_request(ServerRequest& request) override {
    ++requests;
    if (hold) {
      held.push_back(&request);
    } else {
      run(request);
    }
  }

  void run(ServerRequest& request) {
    const auto message = load<DiskMessage>(request.user_message());
    if (message.block == UINT32_MAX) {
      request.respond(EINVAL);  // as a server answers what says nothing
      return;
    }
    ++executed;
    if (message.error != 0) {
      request.respond(static_cast<int>(message.error + 0));
      return;
    }
    std::vector<std::byte>& block = blocks[message.block];
    block.resize(kBlock);
    const auto data = request.data();
    if (request.direction() == Direction::Write) {
      if (on_execute) on_execute(message.block, data.front());
      std::ranges::copy(data, block.begin());
    } else {
      std::ranges::copy(std::span(block).first(data.size()), data.begin());
    }
    request.respond(0);
  }

  void run_held() {
    for (ServerRequest* request : std::exchange(held, {})) run(*request);
  }

  std::function<void(std::uint32_t block, std::byte first)> on_execute;  ///< before a write lands
  std::map<std::uint32_t, std::vector<std::byte>> blocks;
  std::deque<ServerRequest*> held;
  bool hold = false;
  std::size_t requests = 0;
  std::size_t executed = 0;  ///< of them
};

class Server final : public ServerSessionEvents {
 public:
  Server(sim::MemoryFabric& fabric, const ServerParameters& parameters,
         const HeartbeatTiming& heartbeat)
      : host_(fabric.host("server")), parameters_(parameters), heartbeat_(heartbeat) {
    restart();
  }

  /// Begins anew, with the same disk: at first, and once the acceptor has closed.
  void restart() {
    listener.reset();
    acceptor_.emplace(control, std::vector<WorkerContext*>{&workers[0], &workers[1]},
                      AcceptorSettings{.parameters = parameters_,
                                       .limits = ClientLimits::of_memory(std::uint64_t{1} << 30),
                                       .heartbeat = heartbeat_},
                      *this);
    auto opened = host_.listen({.text = "", .port = 1234}, *acceptor_);
    EXPECT_TRUE(opened);
    listener = std::move(*opened);
  }
  [[nodiscard]] ServerAcceptor& acceptor() { return *acceptor_; }
  [[nodiscard]] const ServerParameters& parameters() const { return parameters_; }

  Result<RequestHandler*> on_session_named(ServerSession& session) override {
    names.push_back(session.name());
    return &disk;
  }
  void on_session_closed(ServerSession&, Executor::Task done) override {
    control.post(std::move(done));
  }
  void on_session_ended(ServerSession&) override { ++ended; }

  sim::ManualControl control;
  std::array<sim::ManualContext, 2> workers;
  ArrayDisk disk;
  std::vector<std::string> names;
  int ended = 0;

 private:
  sim::MemoryHost& host_;
  const ServerParameters parameters_;
  const HeartbeatTiming heartbeat_;
  std::optional<ServerAcceptor> acceptor_;

 public:
  std::unique_ptr<transport::Listener> listener;
};

class Client final : public SessionEvents, public RequestOwner, public PermitWaiter {
 public:
  /// `paths`: over as many adapters. `resumed`: of a client of that name which is no more.
  Client(sim::Network& fabric, sim::ManualControl& on, const std::string& name,
         std::size_t paths = 1, PathPolicy policy = PathPolicy::MinInflight,
         std::optional<ResumedSession> resumed = {},
         SessionCore::MakeMemory make_memory = MemoryBlock::map)
      : control(on),
        session(fabric.host(name), control, {&workers[0], &workers[1]},
                {.name = name,
                 .paths = specs(fabric, name, paths),
                 .session_uuid = uuid(name, 1),
                 .policy = policy,
                 .make_memory = std::move(make_memory),
                 .resumed = std::move(resumed)},
                *this) {}

  static std::vector<PathSpec> specs(sim::Network& fabric, const std::string& name,
                                     std::size_t count) {
    std::vector<PathSpec> paths;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string& server = fabric.host("server").address(i);
      paths.push_back({.route = {.source = {}, .destination = {.text = server, .port = 1234}},
                       .uuid = uuid(name, static_cast<std::uint8_t>(2 + i))});
    }
    return paths;
  }

  static Uuid uuid(const std::string& name, std::uint8_t kind) {
    Uuid result{};
    std::ranges::copy(std::string_view(name).substr(0, 12), result.begin());
    result[15] = kind;
    return result;
  }

  /// As RNBD does: requests wait until the server has answered a message or two.
  void on_session_up() override {
    ++ups;
    if (!says_hello) {
      session.resume();
      return;
    }
    DiskMessage hello;
    hello.block = 999;
    const auto bytes = bytes_of(hello);
    session.send({.direction = Direction::Read,
                  .message = {bytes.begin(), bytes.end()},
                  .answer_length = kBlock,
                  .done = [this](int error, const std::vector<std::byte>&) {
                    if (error == 0) session.resume();
                  }});
  }
  void on_session_down(const Error& error, bool will_retry) override {
    ++downs;
    last_error = error;
    retries = will_retry;
  }

  void on_server_changed() override { ++changes; }

  void on_request_done(PermitId permit, int error) override {
    done[permit] = error;
    ++finished;
    if (on_done) on_done(permit, error);
  }
  void on_request_renewed(PermitId, std::span<std::byte>) override { ++renewed; }
  void on_permits_available() override { ++permit_calls; }

  PermitId submit(std::size_t queue, Direction direction, std::uint32_t block, std::byte fill,
                  std::uint32_t error = 0, std::uint32_t length = kBlock) {
    PermitId permit = 0;
    EXPECT_TRUE(session.queue(queue).acquire({&permit, 1}, *this));
    if (direction == Direction::Write) std::ranges::fill(session.queue(queue).buffer(permit), fill);
    DiskMessage message;
    message.block = block;
    message.error = error;
    session.queue(queue).submit(permit, direction, length, bytes_of(message), *this);
    return permit;
  }
  void release(std::size_t queue, PermitId permit) { session.queue(queue).release({&permit, 1}); }

  sim::ManualControl& control;
  std::array<sim::ManualContext, 2> workers;
  ClientSession session;
  std::map<PermitId, int> done;
  std::function<void(PermitId, int)> on_done;
  std::size_t finished = 0;
  std::size_t renewed = 0;
  int permit_calls = 0;
  int ups = 0;
  int downs = 0;
  int changes = 0;
  bool retries = false;
  bool says_hello = false;
  Error last_error;
};

/// A server and two clients. `seed`: the order of things. Hosts have two adapters, the first
/// client as many paths as asked for.
class Bench {
 public:
  explicit Bench(std::uint64_t seed, bool new_key, std::uint32_t depth = 16, std::size_t paths = 1,
                 PathPolicy policy = PathPolicy::MinInflight,
                 const HeartbeatTiming& server_heartbeat = {})
      : fabric({.seed = seed, .adapters = 2}),
        server(fabric,
               {.queue_depth = depth,
                .max_io_size = 8192,
                .max_header_size = limits::kHeaderArea,
                .new_key = new_key},
               server_heartbeat),
        one(fabric, client_control, "one", paths, policy),
        two(fabric, client_control, "two") {
    for (auto* workers : {&server.workers, &one.workers, &two.workers}) {
      for (sim::ManualContext& each : *workers) each.look_when_told();
    }
  }

  bool until(const std::function<bool()>& condition) {
    return sim::run_until(condition,
                          {&server.control.context(), &server.workers[0], &server.workers[1],
                           &client_control.context(), &one.workers[0], &one.workers[1],
                           &two.workers[0], &two.workers[1]},
                          fabric);
  }
  void idle() {
    until([] { return false; });
  }
  void pass(Duration time) {
    sim::advance(time, {&server.control.context(), &server.workers[0], &server.workers[1],
                        &client_control.context(), &one.workers[0], &one.workers[1],
                        &two.workers[0], &two.workers[1]});
  }

  bool bring_up(Client& client) {
    client.session.start();
    return until([&] { return client.ups == 1; });
  }
  void close(Client& client) {
    bool closed = false;
    client.session.close([&] { closed = true; });
    EXPECT_TRUE(until([&] { return closed; }));
  }

  // The line of the first client's n-th path.
  void cut(std::size_t line) { fabric.cut(near(line), far(line)); }
  void heal(std::size_t line) { fabric.heal(near(line), far(line)); }
  void break_line(std::size_t line) { fabric.break_connections(near(line), far(line)); }
  void run_out_of_retries(std::size_t line) { fabric.run_out_of_retries(near(line), far(line)); }
  [[nodiscard]] std::string near(std::size_t line) { return fabric.host("one").address(line); }
  [[nodiscard]] std::string far(std::size_t line) { return fabric.host("server").address(line); }

  sim::MemoryFabric fabric;
  sim::ManualControl client_control;
  Server server;
  Client one;
  Client two;
};

}  // namespace rnbd::rtrs::test
