// SPDX-License-Identifier: Apache-2.0
// A client that means no good: it comes up by the book, or nearly, and then says anything. It may
// read disks as everybody may; whatever it says must not change one, nor disturb anybody. One
// thread.
#pragma once

#include <cstdint>
#include <string>

#include "sim/memory_fabric.h"
#include "simulator/world.h"
#include "unit/raw_peer.h"

namespace rnbd::simulator {

class Intruder {
 public:
  /// Not there until come().
  Intruder(World& world, sim::MemoryFabric& fabric, const std::string& server);

  void come();
  void go();

  /// Takes what has come and says something; false if nothing happened.
  bool poll();

 private:
  using Bytes = rtrs::test::Bytes;
  using RawRequest = rtrs::test::RawRequest;

  void say();
  void connect_next();
  void send_info();
  void send_request();
  void start_anew();
  [[nodiscard]] Bytes noise(std::uint32_t most);
  void spoil(Bytes& bytes);
  [[nodiscard]] RawRequest any_bytes();
  [[nodiscard]] RawRequest any_io();
  [[nodiscard]] RawRequest any_service();

  World& world_;
  rtrs::test::RawClient client_;
  bool here_ = false;
  std::uint16_t dialled_ = 0;  ///< connections of this attempt
  std::uint16_t wanted_ = 0;   ///< that it will have
  bool info_sent_ = false;
  std::uint16_t attempt_ = 0;
  TimePoint next_{};
};

}  // namespace rnbd::simulator
