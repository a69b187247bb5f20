// SPDX-License-Identifier: Apache-2.0
// A client's session against a server that says anything: accepts, INFO responses, immediates and
// key responses. The session can be closed in the end, each request ends once, and nothing stays.
#include <cstdint>

#include "common/assert.h"
#include "fuzz/bench.h"
#include "fuzz/input.h"
#include "unit/hostile_server.h"

using namespace rnbd;
using namespace rnbd::rtrs;
using namespace rnbd::rtrs::test;

namespace {

class Stage {
 public:
  explicit Stage(bool new_key)
      : server_(fabric_.host("server"), {.queue_depth = kDepth,
                                         .max_io_size = 8192,
                                         .max_header_size = limits::kHeaderArea,
                                         .new_key = new_key}) {}

  void play(fuzz::Input& input) {
    deform(input);
    client_.session.start();
    settle();
    while (!input.empty()) step(input);
    close();
  }

 private:
  /// By the book, but for some bytes.
  static Bytes deform(Bytes message, std::span<const std::byte> changes) {
    for (std::size_t i = 0; i + 1 < changes.size(); i += 2) {
      message[std::to_integer<std::size_t>(changes[i]) % message.size()] = changes[i + 1];
    }
    return message;
  }
  void deform(fuzz::Input& input) {
    const auto accept = input.bytes(2 * (input.number<std::uint8_t>() % 4));
    const auto info = input.bytes(2 * (input.number<std::uint8_t>() % 4));
    server_.accept_with = [this, accept](std::uint16_t) {
      return deform(join(make_accept(server_.parameters)), accept);
    };
    server_.info_with = [this, info] { return deform(server_.info_response(), info); };
  }

  void step(fuzz::Input& input) {
    switch (input.number<std::uint8_t>() % 6) {
      case 0:
        submit(input);
        break;
      case 1:
        answer(input);
        break;
      case 2:
        if (RawConnection* one = connection(input))
          one->write_immediate(input.number<std::uint32_t>());
        break;
      case 3:
        if (RawConnection* one = connection(input)) {
          one->send_immediate(input.number<std::uint32_t>(), input.string());
        }
        break;
      case 4:
        if (RawConnection* one = connection(input)) one->send(input.string());
        break;
      default:
        for (int seconds = input.number<std::uint8_t>() % 40; seconds > 0; --seconds) {
          sim::advance(std::chrono::seconds(1),
                       {&control_.context(), &client_.workers[0], &client_.workers[1]});
          settle();
        }
        break;
    }
    settle();
  }

  RawConnection* connection(fuzz::Input& input) {
    const std::size_t cid = input.number<std::uint8_t>() % 3;
    if (cid >= server_.connections() || server_[cid].over || !server_[cid].established)
      return nullptr;
    return &server_[cid];
  }

  void submit(fuzz::Input& input) {
    if (!client_.session.connected() || submitted_ >= kDepth / 4) return;
    const auto direction = input.flag() ? Direction::Read : Direction::Write;
    held_.push_back(client_.submit(input.flag() ? 1 : 0, direction, 1, std::byte{1}));
    ++submitted_;
  }
  /// One that waits, by the book or nearly.
  void answer(fuzz::Input& input) {
    if (server_.requests.empty()) return;
    const auto& request = server_.requests[input.number<std::uint8_t>() % server_.requests.size()];
    if (request.cid >= server_.connections() || server_[request.cid].over) return;
    server_.answer(request, input.number<std::uint8_t>() % 3);
  }

  void settle() {
    sim::run_until(
        [this] {
          server_.poll();
          return false;
        },
        {&control_.context(), &client_.workers[0], &client_.workers[1]}, fabric_);
  }

  void close() {
    RNBD_ASSERT(client_.finished <= submitted_);
    for (std::size_t queue = 0; client_.ups > 0 && queue < 2; ++queue) {
      client_.session.queue(queue).abandon(client_);
    }
    for (const PermitId permit : held_) {
      if (client_.done.contains(permit)) client_.release(0, permit);
    }
    bool closed = false;
    client_.session.close([&] { closed = true; });
    settle();
    RNBD_ASSERT(closed);
    server_.close();
    settle();
    RNBD_ASSERT(fabric_.endpoints() == 0);
  }

  sim::MemoryFabric fabric_{{.seed = 1}};
  sim::ManualControl control_;
  RawServer server_;
  Client client_{fabric_, control_, "one"};
  std::vector<PermitId> held_;
  std::size_t submitted_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::fail_hard();
  fuzz::Input input(data, size);
  Stage stage(input.flag());
  stage.play(input);
  return 0;
}
