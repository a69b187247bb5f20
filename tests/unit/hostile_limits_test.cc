// SPDX-License-Identifier: Apache-2.0
// Clients that want more than their share, against the whole server: what they have they keep, what
// they ask beyond it is refused, and others get what is theirs.
#include <cerrno>
#include <chrono>

#include "unit/hostile_client.h"

namespace rnbd::server::test {
namespace {

using rtrs::ClientLimits;
using rtrs::ConnectRequest;
using rtrs::ConnectResponse;
using std::chrono::seconds;

constexpr std::uint64_t kSessionBytes = kDepth * (kMaxIo + limits::kHeaderArea);

/// Over real adapters all hosts may be one, and with that one client.
std::vector<rnbd::test::Order> orders_in_memory() {
  auto some = orders({0, 1, 2});
  std::erase_if(some, [](const auto& order) { return order.real; });
  return some;
}

class GreedyClient : public HostileClient {
 protected:
  /// The first connection of another session each time.
  RawConnection& found(std::uint16_t connections = 3) {
    ConnectRequest request = RawClient::request(0, connections);
    ++sessions_;
    request.session_uuid = {0xbb, sessions_};
    request.path_uuid = {0xbc, sessions_};
    return evil_.dial(join(request));
  }
  void limit(const ClientLimits& limits) { bench_.server.acceptor.set_limits(limits); }

  /// Somebody else, who wants one session.
  bool another_gets_in(std::uint16_t connections = 3) {
    RawClient other{bench_.fabric.host("other"), bench_.fabric.host("server").address(),
                    [this](const auto& condition) { return bench_.until(condition); }};
    bench_.pollers.push_back([&] { return other.poll(); });
    ConnectRequest request = RawClient::request(0, connections);
    request.session_uuid = {0xcc, 1};
    request.path_uuid = {0xcc, 2};
    const bool established = other.dial(join(request)).established;
    other.close();
    bench_.settle();
    bench_.pollers.pop_back();
    return established;
  }

  static int refused_with(const RawConnection& connection) {
    if (!connection.rejected || connection.answer.size() < sizeof(ConnectResponse)) return 0;
    return -static_cast<std::int16_t>(load<ConnectResponse>(connection.answer).error + 0);
  }

  ClientLimits limits_ = ClientLimits::of_memory(std::uint64_t{1} << 30);

 private:
  std::uint8_t sessions_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Orders, GreedyClient,
                         testing::Combine(testing::ValuesIn(orders_in_memory()), testing::Bool()),
                         order_name);

TEST_P(GreedyClient, HasItsShareOfSessions) {
  limits_.client.sessions = 2;
  limit(limits_);
  EXPECT_TRUE(found().established);
  EXPECT_TRUE(found().established);
  EXPECT_EQ(refused_with(found()), ENOMEM);
  EXPECT_FALSE(evil_[0].over) << "what it has it keeps";
  EXPECT_TRUE(another_gets_in());
}

TEST_P(GreedyClient, HasItsShareOfPaths) {
  limits_.client.paths = 2;
  limit(limits_);
  EXPECT_TRUE(found().established);
  EXPECT_TRUE(found().established);
  EXPECT_EQ(refused_with(found()), ENOMEM);
  EXPECT_EQ(bench_.server.acceptor.sessions().size(), 3U) << "nothing was begun for that";
  EXPECT_TRUE(another_gets_in());
}

TEST_P(GreedyClient, HasItsShareOfConnectionsWhetherTheyAreThereOrNot) {
  limits_.client.connections = 10;
  limit(limits_);
  EXPECT_EQ(refused_with(found(11)), ENOMEM);
  EXPECT_TRUE(found(7).established);
  EXPECT_EQ(refused_with(found(4)), ENOMEM);
  EXPECT_TRUE(found(3).established);
  EXPECT_TRUE(another_gets_in(10));
}

TEST_P(GreedyClient, HasItsShareOfMemory) {
  limits_.client.memory = 2 * kSessionBytes + kSessionBytes / 2;
  limit(limits_);
  EXPECT_TRUE(found().established);
  EXPECT_TRUE(found().established);
  EXPECT_EQ(refused_with(found()), ENOMEM);
  EXPECT_TRUE(another_gets_in());
}

TEST_P(GreedyClient, CannotHaveMoreThanThereIsForAll) {
  using Narrow = void (*)(rtrs::Share&);
  // The good client has one session, with one path of three connections.
  for (const Narrow narrow : {Narrow([](rtrs::Share& all) { all.sessions = 2; }),
                              Narrow([](rtrs::Share& all) { all.paths = 2; }),
                              Narrow([](rtrs::Share& all) { all.connections = 7; }),
                              Narrow([](rtrs::Share& all) { all.memory = 2 * kSessionBytes; })}) {
    ClientLimits limits = limits_;
    narrow(limits.all);
    limit(limits);
    EXPECT_TRUE(found().established);
    EXPECT_EQ(refused_with(found()), ENOMEM);
    EXPECT_FALSE(another_gets_in());
    EXPECT_TRUE(bench_.good.works());
    expect_nothing_left();
    EXPECT_TRUE(another_gets_in()) << "its share is free again";
  }
}

TEST_P(GreedyClient, LosesWhatItLeavesHalfOpen) {
  limits_.client.sessions = 2;
  limit(limits_);
  EXPECT_TRUE(found().established);
  bench_.pass(seconds(10));
  EXPECT_TRUE(found().established);
  EXPECT_EQ(refused_with(found()), ENOMEM);
  bench_.pass(limits::kHalfOpenTimeout - seconds(9));
  EXPECT_TRUE(evil_[0].over) << "connections of its path are missing";
  EXPECT_FALSE(evil_[1].over) << "its time is not over yet";
  EXPECT_TRUE(found().established);
  EXPECT_EQ(refused_with(found()), ENOMEM);
}

TEST_P(GreedyClient, ANewLifeOfAPathTakesThePlaceOfTheLastOne) {
  limits_.client.connections = 3;
  limits_.client.paths = 1;
  limit(limits_);
  ASSERT_TRUE(evil_.bring_up());
  const auto begin_anew = [&](std::uint16_t connections) -> RawConnection& {
    return evil_.dial(join(RawClient::request(0, connections)));
  };
  EXPECT_TRUE(begin_anew(3).established);
  EXPECT_TRUE(evil_.is_cut_off()) << "from the last one";
  EXPECT_EQ(refused_with(begin_anew(4)), ENOMEM) << "and does not grow by that";
}

TEST(ClientLimits, HaveRoomForAKernelsClientWithManyProcessorsAndSessions) {
  const ClientLimits limits = ClientLimits::of_memory(std::uint64_t{64} << 30);
  constexpr std::uint64_t kBytes = std::uint64_t{64} << 20;
  constexpr std::uint64_t kProcessors = 256;
  rtrs::Share held;
  for (int session = 0; session < 16; ++session) {
    for (int path = 0; path < 2; ++path) {
      const rtrs::Share asked{.sessions = path == 0 ? 1U : 0U,
                              .paths = 1,
                              .connections = kProcessors + 1,
                              .memory = path == 0 ? kBytes : 0};
      ASSERT_TRUE(rtrs::check_limits(limits, asked, held, held));
      held.sessions += asked.sessions;
      held.paths += asked.paths;
      held.connections += asked.connections;
      held.memory += asked.memory;
    }
  }
}

TEST(ClientLimits, SayWhichWasReached) {
  ClientLimits limits = ClientLimits::of_memory(std::uint64_t{256} << 20);
  const rtrs::Share asked{.sessions = 1, .paths = 1, .connections = 3, .memory = 64 << 20};
  const auto why = [&](const rtrs::Share& all, const rtrs::Share& client) {
    return rtrs::check_limits(limits, asked, all, client).error().message;
  };
  EXPECT_EQ(why({}, {.sessions = 64}),
            "this client would have 65 sessions; max_sessions_per_client is 64");
  EXPECT_EQ(why({}, {.memory = 192 << 20}),
            "this client would have 256 MiB of memory; max_memory_mib_per_client is 192");
  EXPECT_EQ(why({.connections = 65534}, {}),
            "all clients would have 65537 connections; max_connections is 65536");
}

TEST(ClientLimits, LeaveOneSessionToEachWhereMemoryIsShort) {
  const ClientLimits limits = ClientLimits::of_memory(96 << 20, 64 << 20);
  const rtrs::Share asked{.sessions = 1, .memory = 80 << 20};
  EXPECT_EQ(limits.client.memory, std::uint64_t{72} << 20);
  EXPECT_EQ(ClientLimits::of_memory(64 << 20, 64 << 20).client.memory, std::uint64_t{64} << 20);
  EXPECT_FALSE(rtrs::check_limits(limits, asked, {}, {}));
}

}  // namespace
}  // namespace rnbd::server::test
