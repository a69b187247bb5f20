// SPDX-License-Identifier: Apache-2.0
// The stage for servers that misbehave towards a client's session with two queues. Whatever they
// do, the session can be closed in the end, and nothing of it stays.
#pragma once

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "unit/engine_bench.h"
#include "unit/orders.h"
#include "unit/raw_server.h"

namespace rnbd::rtrs::test {

inline constexpr std::uint32_t kDepth = 12;

using rnbd::test::order_name;
using rnbd::test::orders;

class HostileServer : public testing::TestWithParam<rnbd::test::OrderAndKeys> {
 protected:
  void TearDown() override {
    close_client();
    server_.close();
    EXPECT_EQ(fabric_.endpoints(), 0U);
  }

  bool until(const std::function<bool()>& condition) {
    return sim::run_until(
        [&] {
          server_.poll();
          return condition();
        },
        {&control_.context(), &client_->workers[0], &client_->workers[1]}, fabric_);
  }
  void settle() {
    sim::run_until_idle({&control_.context(), &client_->workers[0], &client_->workers[1]}, fabric_,
                        [this] { return server_.poll(); });
  }
  /// In steps that leave an adapter the time to connect before it is given up.
  void pass(std::chrono::milliseconds time) {
    constexpr std::chrono::milliseconds kStep{200};
    while (time > std::chrono::milliseconds(0)) {
      const auto step = std::min(time, kStep);
      sim::advance(step, {&control_.context(), &client_->workers[0], &client_->workers[1]});
      settle();
      time -= step;
    }
  }

  bool bring_up() {
    client_->session.start();
    return until([&] { return client_->ups == 1; });
  }
  /// Starts, and expects never to come up: the errno it goes down with.
  int start_in_vain() {
    client_->session.start();
    until([&] { return client_->downs == 1; });
    settle();
    EXPECT_EQ(client_->downs, 1);
    EXPECT_EQ(client_->ups, 0);
    EXPECT_FALSE(client_->retries);
    EXPECT_FALSE(client_->last_error.message.empty());
    EXPECT_EQ(server_.requests.size(), 0U);
    return client_->last_error.code;
  }
  /// The session has just been lost to EPROTO or the like; the server behaves from now on: it comes
  /// back, and what was outstanding is answered.
  void expect_recovery(std::size_t outstanding) {
    const int ups = client_->ups;
    const std::size_t finished = client_->finished;
    server_.behave();
    server_.on_request = [this](const RawServer::Request& request) { server_.answer(request); };
    for (int i = 0; i < 30 && client_->ups == ups; ++i) pass(std::chrono::seconds(1));
    EXPECT_EQ(client_->ups, ups + 1);
    EXPECT_TRUE(until([&] { return client_->finished == finished + outstanding; }));
    settle();
    EXPECT_EQ(client_->finished, finished + outstanding) << "each is answered once";
    server_.on_request = nullptr;
  }
  void close_client() {
    for (std::size_t queue = 0; client_->ups > 0 && queue < 2; ++queue) {
      client_->session.queue(queue).abandon(*client_);
    }
    // Those of abandoned requests go back by themselves.
    for (const PermitId permit : held_) {
      if (client_->done.contains(permit)) client_->release(0, permit);
    }
    held_.clear();
    bool closed = false;
    client_->session.close([&] { closed = true; });
    EXPECT_TRUE(until([&] { return closed; }));
    settle();
  }
  /// A fresh client and the server as it was.
  void start_over() {
    close_client();
    client_ = std::make_unique<Client>(fabric_, control_, "one");
    server_.behave();
    server_.requests.clear();
  }

  PermitId submit(std::size_t queue, Direction direction = Direction::Write) {
    const PermitId permit = client_->submit(queue, direction, 1, std::byte{1});
    held_.push_back(permit);
    return permit;
  }
  /// A request on each queue, and the server has them.
  void submit_two() {
    first_ = submit(0);
    second_ = submit(1);
    ASSERT_TRUE(until([&] { return server_.requests.size() == 2; }));
  }

  /// A chunk that no request is in.
  [[nodiscard]] std::uint32_t unused() const {
    std::uint32_t chunk = 0;
    while (chunk == first_ || chunk == second_) ++chunk;
    return chunk;
  }
  [[nodiscard]] static bool new_key() { return std::get<1>(GetParam()); }

  const rnbd::test::Order order_ = std::get<0>(GetParam());
  const std::unique_ptr<sim::Network> network_ = order_.make();
  sim::Network& fabric_ = *network_;
  sim::ManualControl control_;
  RawServer server_{fabric_.host("server"),
                    {.queue_depth = kDepth,
                     .max_io_size = 8192,
                     .max_header_size = limits::kHeaderArea,
                     .new_key = new_key()}};
  std::unique_ptr<Client> client_ = std::make_unique<Client>(fabric_, control_, "one");
  std::vector<PermitId> held_;
  PermitId first_ = 0;
  PermitId second_ = 0;
};

}  // namespace rnbd::rtrs::test
