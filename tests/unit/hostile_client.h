// SPDX-License-Identifier: Apache-2.0
// The stage for peers that misbehave towards a server: a good client is at work before, meanwhile
// and after, and when the other one is gone the server must hold exactly what it held before.
#pragma once

#include <memory>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/disk_bench.h"
#include "unit/orders.h"
#include "unit/raw_peer.h"

namespace rnbd::server::test {

using rtrs::test::Bytes;
using rtrs::test::filled;
using rtrs::test::join;
using rtrs::test::RawClient;
using rtrs::test::RawConnection;
using rtrs::test::RawRequest;

using rnbd::test::order_name;
using rnbd::test::orders;

class HostileClient : public testing::TestWithParam<rnbd::test::OrderAndKeys> {
 protected:
  void SetUp() override {
    bench_.pollers.push_back([this] { return evil_.poll(); });
    ASSERT_TRUE(bench_.good.bring_up("good-disk"));
    ASSERT_TRUE(bench_.good.works());
    bench_.settle();
    before_ = bench_.server.census();
  }

  void TearDown() override {
    EXPECT_TRUE(bench_.good.works());
    expect_nothing_left();
    evil_.close();
    bench_.end();
  }

  /// The evil client goes away: nothing of it stays, and the good one does not care.
  void expect_nothing_left() {
    evil_.hang_up();
    bench_.until([&] { return bench_.server.census() == before_; });
    bench_.settle();
    EXPECT_EQ(bench_.server.census(), before_);
    EXPECT_TRUE(bench_.good.works());
    EXPECT_EQ(bench_.good.downs, 0);
  }

  void bring_up_anew() {
    expect_nothing_left();
    ASSERT_TRUE(evil_.bring_up());
  }

  [[nodiscard]] static bool new_key() { return std::get<1>(GetParam()); }
  [[nodiscard]] std::vector<std::byte>& disk(const std::string& name) {
    struct stat status{};
    EXPECT_EQ(::stat((bench_.directory.path() / name).c_str(), &status), 0);
    return bench_.server.disks.content[status.st_ino];
  }

  const rnbd::test::Order order_ = std::get<0>(GetParam());
  const std::unique_ptr<sim::Network> network_ = order_.make();
  DiskBench bench_{*network_, new_key()};
  RawClient evil_{bench_.fabric.host("evil"), bench_.fabric.host("server").address(),
                  [this](const auto& condition) { return bench_.until(condition); }};
  std::string before_;
};

/// An I/O message of the evil client's.
inline wire::Io io(wire::Operation operation, std::uint64_t sector, std::uint32_t size,
                   std::uint32_t device_id = 0) {
  wire::Io message;
  message.header = wire::header(wire::MessageType::Io);
  message.device_id = device_id;
  message.sector = sector;
  message.rw = std::to_underlying(operation);
  message.size = size;
  return message;
}

inline wire::Open open_message(std::string_view name, std::uint8_t access_mode = 1) {
  wire::Open message;
  message.header = wire::header(wire::MessageType::Open);
  message.access_mode = access_mode;
  std::ranges::copy(name, message.device_name.begin());
  return message;
}

inline wire::Close close_message(std::uint32_t device_id) {
  wire::Close message;
  message.header = wire::header(wire::MessageType::Close);
  message.device_id = device_id;
  return message;
}

}  // namespace rnbd::server::test
