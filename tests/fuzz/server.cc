// SPDX-License-Identifier: Apache-2.0
// A whole server against a client that says anything: private data, handshake messages, immediates,
// chunks with messages at any offset, well-formed requests with any values, in any order. The good
// client beside it goes on, and nothing of the evil one stays.
#include <chrono>
#include <cstdint>
#include <memory>

#include "common/assert.h"
#include "fuzz/bench.h"
#include "fuzz/input.h"
#include "sim/memory_fabric.h"
#include "unit/hostile_client.h"

using namespace rnbd;
using namespace rnbd::server::test;
using rtrs::ConnectRequest;

namespace {

/// The stage of tests/unit/hostile_client.h, kept from input to input.
class Stage {
 public:
  explicit Stage(bool new_key) : bench_(network_, new_key) {
    bench_.pollers.push_back([this] { return evil_.poll(); });
    RNBD_ASSERT(bench_.good.bring_up("good-disk") && bench_.good.works());
    bench_.settle();
    before_ = bench_.server.census();
  }

  void play(fuzz::Input& input) {
    while (!input.empty()) step(input);
    evil_.hang_up();
    up_ = false;
    bench_.settle();
    RNBD_ASSERT(bench_.server.census() == before_);
    RNBD_ASSERT(bench_.good.works() && bench_.good.downs == 0);
  }

 private:
  enum Step { BringUp, Dial, Send, Immediate, Chunk, Io, Service, Works, Time, kSteps };

  void step(fuzz::Input& input) {
    switch (input.number<std::uint8_t>() % kSteps) {
      case BringUp:
        bring_up();
        break;
      case Dial:
        dial(input);
        break;
      case Send:
        if (alive()) evil_[cid(input)].send(input.string());
        break;
      case Immediate:
        if (alive()) evil_[cid(input)].write_immediate(input.number<std::uint32_t>());
        break;
      case Chunk:
        chunk(input);
        break;
      case Io:
        ask(input, io_request(input));
        break;
      case Service:
        ask(input, service_request(input));
        break;
      case Works:
        RNBD_ASSERT(bench_.good.works());
        break;
      default:
        bench_.pass(std::chrono::seconds(input.number<std::uint8_t>() % 40));
        break;
    }
  }

  [[nodiscard]] bool alive() const { return up_ && !evil_.over(); }
  static std::uint16_t cid(fuzz::Input& input) {
    return static_cast<std::uint16_t>(input.number<std::uint8_t>() % 3);
  }

  void bring_up() {
    if (alive()) return;
    evil_.hang_up();
    bench_.settle();
    up_ = evil_.bring_up();
  }

  /// A connection by the book, but for some bytes.
  void dial(fuzz::Input& input) {
    if (alive()) return;
    if (up_) {
      evil_.hang_up();
      up_ = false;
    }
    Bytes request = join(rtrs::test::RawClient::request(cid(input)));
    for (int changes = input.number<std::uint8_t>() % 4; changes > 0; --changes) {
      request[input.number<std::uint8_t>() % request.size()] =
          std::byte{input.number<std::uint8_t>()};
    }
    evil_.dial(request);
    if (input.flag() && !evil_.over()) evil_[0].send(input.string());
    bench_.settle();
    evil_.hang_up();
  }

  /// Any bytes anywhere in a chunk, and an immediate that points anywhere.
  void chunk(fuzz::Input& input) {
    if (!alive()) return;
    RawRequest request;
    request.cid = cid(input);
    request.chunk = input.number<std::uint8_t>() % (kDepth + 4);
    request.at = input.number<std::uint16_t>() % (kMaxIo + limits::kHeaderArea);
    request.bytes = input.string();
    request.offset = input.number<std::uint16_t>() % (1U << 14);
    evil_.post(request);
    bench_.settle();
  }

  RawRequest io_request(fuzz::Input& input) {
    const std::uint32_t size = input.below(kMaxIo + 1);
    wire::Io message =
        io(static_cast<wire::Operation>(input.number<std::uint8_t>() % 8),
           input.number<std::uint64_t>() >> (input.number<std::uint8_t>() % 64),
           input.flag() ? size : input.number<std::uint32_t>(), input.number<std::uint8_t>() % 4);
    const Bytes user = join(message);
    if (input.flag()) return evil_.read_request(user, size);
    return rtrs::test::RawClient::write_request(user, filled(size));
  }

  RawRequest service_request(fuzz::Input& input) {
    Bytes user;
    switch (input.number<std::uint8_t>() % 4) {
      case 0:
        user = join(open_message("disk", input.number<std::uint8_t>()));
        break;
      case 1:
        user = join(open_message(fuzz::text(input.bytes(input.number<std::uint8_t>() % 255))));
        break;
      case 2:
        user = join(close_message(input.number<std::uint8_t>() % 4));
        break;
      default:
        user = input.string();
        break;
    }
    RawRequest request = input.flag() ? evil_.read_request(user, input.number<std::uint8_t>())
                                      : rtrs::test::RawClient::write_request(user);
    request.cid = 0;
    return request;
  }

  void ask(fuzz::Input& input, RawRequest request) {
    if (!alive()) return;
    if (request.cid != 0)
      request.cid = static_cast<std::uint16_t>(1 + input.number<std::uint8_t>() % 2);
    request.chunk = input.number<std::uint8_t>() % kDepth;
    if (request.at + request.bytes.size() > kMaxIo + limits::kHeaderArea) return;
    evil_.post(request);
    if (input.flag()) bench_.settle();
  }

  sim::MemoryFabric network_{{.seed = 1}};
  DiskBench bench_;
  RawClient evil_{network_.host("evil"), network_.host("server").address(),
                  [this](const auto& condition) { return bench_.until(condition); }};
  std::string before_;
  bool up_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::fail_hard();
  // Never taken down: what is left at the end is the good client's.
  static auto* const one_key = new Stage(false);
  static auto* const new_keys = new Stage(true);
  fuzz::Input input(data, size);
  (input.flag() ? new_keys : one_key)->play(input);
  return 0;
}
