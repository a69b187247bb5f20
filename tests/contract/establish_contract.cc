// SPDX-License-Identifier: Apache-2.0
// The contract, on connecting: who is told what, once, and what ends an attempt.
#include <algorithm>
#include <cerrno>
#include <map>

#include "contract/fabric_contract.h"
#include "contract/peer.h"

namespace rnbd::contract {
namespace {

constexpr transport::QueueSize kSmall = {.send_work = 8, .receive_work = 8};

/// Brings `peer` as far as having sent its request with `words`.
void request(FabricUnderTest& fabric, Peer& peer, const std::string& words) {
  dial(fabric, peer);
  ASSERT_TRUE(fabric.wait_until([&] { return peer.resolved || peer.is_over(); }));
  ASSERT_TRUE(peer.resolved) << describe(peer.error);
  peer.open_queue(kSmall);
  ASSERT_TRUE(peer.endpoint->connect(bytes(words)));
}

TEST_P(FabricContract, PrivateDataTravelsBothWays) {
  Acceptor acceptor;
  const auto listener = listen(fabric(), acceptor);
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "may I come in?"));
  ASSERT_TRUE(fabric().wait_until([&] { return acceptor.arrived.size() == 1; }));
  EXPECT_TRUE(carries(acceptor.private_data, "may I come in?"));

  Peer server;
  server.endpoint = std::move(acceptor.arrived.front());
  server.endpoint->set_events(server);
  server.open_queue(kSmall);
  ASSERT_TRUE(server.endpoint->accept(bytes("please do")));
  ASSERT_TRUE(fabric().wait_until([&] { return client.established && server.established; }));
  EXPECT_TRUE(carries(client.private_data, "please do"));
}

TEST_P(FabricContract, LongestPrivateDataArrivesWhole) {
  const std::string question(56, 'q');
  const std::string answer(196, 'a');
  Acceptor acceptor;
  const auto listener = listen(fabric(), acceptor);
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, question));
  ASSERT_TRUE(fabric().wait_until([&] { return acceptor.arrived.size() == 1; }));
  EXPECT_TRUE(carries(acceptor.private_data, question));
  Peer server;
  server.endpoint = std::move(acceptor.arrived.front());
  server.endpoint->set_events(server);
  server.open_queue(kSmall);
  ASSERT_TRUE(server.endpoint->accept(bytes(answer)));
  ASSERT_TRUE(fabric().wait_until([&] { return client.established; }));
  EXPECT_TRUE(carries(client.private_data, answer));
}

TEST_P(FabricContract, BothEndsKnowTheAddresses) {
  const Connection connection(fabric());
  EXPECT_EQ(connection.client.endpoint->local_address(), fabric().client_address());
  EXPECT_EQ(connection.client.endpoint->peer_address(), fabric().server_address());
  EXPECT_EQ(connection.server.endpoint->local_address(), fabric().server_address());
  EXPECT_EQ(connection.server.endpoint->peer_address(), fabric().client_address());
}

TEST_P(FabricContract, ARejectionCarriesItsWords) {
  Acceptor acceptor;
  const auto listener = listen(fabric(), acceptor);
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  ASSERT_TRUE(fabric().wait_until([&] { return acceptor.arrived.size() == 1; }));
  acceptor.arrived.front()->reject(bytes("we are full"));
  ASSERT_TRUE(fabric().wait_until([&] { return client.is_over(); }));
  EXPECT_TRUE(client.rejected);
  EXPECT_TRUE(carries(client.private_data, "we are full"));
}

TEST_P(FabricContract, ARejectedEndpointMayBeDroppedAtOnce) {
  Acceptor acceptor;
  acceptor.on_request = [](std::unique_ptr<transport::Endpoint> endpoint) {
    endpoint->reject(bytes("not you"));
  };
  const auto listener = listen(fabric(), acceptor);
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  ASSERT_TRUE(fabric().wait_until([&] { return client.is_over(); }));
  EXPECT_TRUE(client.rejected);
  EXPECT_TRUE(carries(client.private_data, "not you"));
}

TEST_P(FabricContract, ADroppedRequestIsRefused) {
  Acceptor acceptor;
  acceptor.on_request = [](std::unique_ptr<transport::Endpoint>) {};
  const auto listener = listen(fabric(), acceptor);
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  ASSERT_TRUE(fabric().wait_until([&] { return client.is_over(); }));
  EXPECT_TRUE(client.rejected || client.failed);
}

TEST_P(FabricContract, DiallingNobodyFails) {
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "anybody there?"));
  ASSERT_TRUE(fabric().wait_until([&] { return client.is_over(); }));
  EXPECT_TRUE(client.failed);
  EXPECT_NE(client.error.code, 0);
  EXPECT_FALSE(client.error.message.empty());
}

TEST_P(FabricContract, AClosedListenerTakesNoMoreRequests) {
  Acceptor acceptor;
  listen(fabric(), acceptor).reset();
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  ASSERT_TRUE(fabric().wait_until([&] { return client.is_over(); }));
  EXPECT_TRUE(client.failed);
  EXPECT_TRUE(acceptor.arrived.empty());
}

TEST_P(FabricContract, TheNextAttemptMaySucceed) {
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  ASSERT_TRUE(fabric().wait_until([&] { return client.is_over(); }));
  const Connection connection(fabric());
  EXPECT_TRUE(connection.client.established);
}

TEST_P(FabricContract, AListenerWithoutAddressTakesAll) {
  Acceptor acceptor;
  const auto listener = fabric().server().listen({.text = "", .port = fabric().port()}, acceptor);
  ASSERT_TRUE(listener) << describe(listener.error());
  Peer client;
  ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  ASSERT_TRUE(fabric().wait_until([&] { return !acceptor.arrived.empty() || client.is_over(); }));
  EXPECT_EQ(acceptor.arrived.size(), 1U);
}

TEST_P(FabricContract, WhatIsNoAddressIsRefusedAtOnce) {
  Peer peer;
  for (const char* text : {"", "nonsense", "10.0.0.1", "ip:", "ip:not.an.address", "gid:xyz"}) {
    const auto endpoint = fabric().client().dial({}, {.text = text, .port = fabric().port()}, peer);
    ASSERT_FALSE(endpoint) << text;
    EXPECT_EQ(endpoint.error().code, EINVAL) << text;
  }
}

TEST_P(FabricContract, ASourceThatIsNotOursIsRefusedAtOnce) {
  Peer peer;
  const auto endpoint =
      fabric().client().dial({.text = "ip:192.0.2.77"},
                             {.text = fabric().server_address(), .port = fabric().port()}, peer);
  ASSERT_FALSE(endpoint);
  EXPECT_EQ(endpoint.error().code, EADDRNOTAVAIL);
}

/// Everything is done inside the events, as a control plane does it.
class Crowd {
 public:
  explicit Crowd(FabricUnderTest& fabric, std::size_t count) : clients_(count) {
    acceptor_.on_request = [this](std::unique_ptr<transport::Endpoint> endpoint) {
      Peer& server = *servers_.emplace_back(std::make_unique<Peer>());
      server.endpoint = std::move(endpoint);
      server.endpoint->set_events(server);
      server.open_queue(kSmall);
      server.post_empty_receives(0, 1);
      EXPECT_TRUE(server.endpoint->accept(acceptor_.private_data));
    };
    listener_ = listen(fabric, acceptor_);
    for (std::size_t i = 0; i < count; ++i) {
      Peer& client = clients_[i];
      client.then = [&client, i](const std::string& event) {
        if (event != "resolved") return;
        client.open_queue(kSmall);
        client.post_empty_receives(0, 1);
        EXPECT_TRUE(client.endpoint->connect(bytes(std::to_string(i))));
      };
      dial(fabric, client);
    }
  }

  std::vector<Peer>& clients() { return clients_; }
  std::vector<std::unique_ptr<Peer>>& servers() { return servers_; }

 private:
  std::vector<Peer> clients_;
  std::vector<std::unique_ptr<Peer>> servers_;
  Acceptor acceptor_;
  std::unique_ptr<transport::Listener> listener_;
};

TEST_P(FabricContract, ManyConnectAtOnceAndAreNotMixedUp) {
  constexpr std::size_t kCount = 16;
  Crowd crowd(fabric(), kCount);
  const auto connected = [&] {
    return std::ranges::all_of(crowd.clients(), &Peer::established) &&
           crowd.servers().size() == kCount &&
           std::ranges::all_of(crowd.servers(), [](const auto& s) { return s->established; });
  };
  ASSERT_TRUE(fabric().wait_until(connected));

  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_TRUE(carries(crowd.clients()[i].private_data, std::to_string(i)));
    crowd.clients()[i].post({write_immediate(1, static_cast<std::uint32_t>(i))});
  }
  std::map<std::uint32_t, int> seen;
  const auto all_arrived = [&] {
    for (const auto& server : crowd.servers()) server->poll();
    return std::ranges::all_of(crowd.servers(), [](const auto& s) { return s->find(0); });
  };
  ASSERT_TRUE(fabric().wait_until(all_arrived));
  for (const auto& server : crowd.servers()) ++seen[server->find(0)->immediate];
  EXPECT_EQ(seen.size(), kCount);
}

TEST_P(FabricContract, AnEndpointMayDieInAnyOfItsEvents) {
  for (const std::string last : {"resolved", "established", "disconnected"}) {
    SCOPED_TRACE(last);
    Acceptor acceptor;
    const auto listener = listen(fabric(), acceptor);
    Peer server;
    acceptor.on_request = [&](std::unique_ptr<transport::Endpoint> endpoint) {
      server.endpoint = std::move(endpoint);
      server.endpoint->set_events(server);
      server.open_queue(kSmall);
      EXPECT_TRUE(server.endpoint->accept({}));
    };
    Peer client;
    client.then = [&](const std::string& event) {
      if (event == last) {
        client.endpoint.reset();
      } else if (event == "resolved") {
        client.open_queue(kSmall);
        EXPECT_TRUE(client.endpoint->connect({}));
      } else if (event == "established") {
        server.endpoint->disconnect();
      }
    };
    dial(fabric(), client);
    ASSERT_TRUE(fabric().wait_until([&] { return client.endpoint == nullptr; }));
    if (last == "established") {
      EXPECT_TRUE(fabric().wait_until([&] { return server.is_over(); }));
    }
    fabric().settle();
  }
}

TEST_P(FabricContract, ARefusedEndpointMayDieInItsEvent) {
  Acceptor acceptor;
  auto listener = listen(fabric(), acceptor);
  acceptor.on_request = [](std::unique_ptr<transport::Endpoint> endpoint) { endpoint->reject({}); };
  for (int attempt = 0; attempt < 2; ++attempt) {
    Peer client;
    client.then = [&](const std::string& event) {
      if (event == "resolved") {
        client.open_queue(kSmall);
        EXPECT_TRUE(client.endpoint->connect({}));
      } else {
        client.endpoint.reset();
      }
    };
    dial(fabric(), client);
    ASSERT_TRUE(fabric().wait_until([&] { return client.endpoint == nullptr; }));
    EXPECT_EQ(client.rejected, attempt == 0);
    EXPECT_EQ(client.failed, attempt == 1);
    listener.reset();  // so that the second finds nobody
  }
}

TEST_P(FabricContract, AnEndpointMayDieWhileItIsConnecting) {
  Acceptor acceptor;
  auto listener = listen(fabric(), acceptor);
  {
    Peer client;
    ASSERT_NO_FATAL_FAILURE(request(fabric(), client, "hello"));
  }
  fabric().settle();
  acceptor.arrived.clear();
  listener.reset();
  const Connection connection(fabric());
  EXPECT_TRUE(connection.client.established);
}

}  // namespace
}  // namespace rnbd::contract
