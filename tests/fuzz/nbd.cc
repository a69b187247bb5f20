// SPDX-License-Identifier: Apache-2.0
// What comes out of an NBD socket: any bytes, in any portions, are requests or the end of the
// socket. No request goes to the server that does not fit the device, and everything comes back
// when the socket is closed.
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include <sys/socket.h>

#include "client/block_queue.h"
#include "client/nbd_wire.h"
#include "common/assert.h"
#include "common/memory_block.h"
#include "fuzz/bench.h"
#include "fuzz/input.h"
#include "unit/edge_worker.h"
#include "unit/fake_request_channel.h"

using namespace rnbd;
using namespace rnbd::client;

namespace {

constexpr std::uint32_t kPermits = 4;

/// A device's queue, and both ends of its socket.
class Stage final : public BlockQueueEvents {
 public:
  Stage() {
    auto pair = make_nbd_socket_pair(1 << 16);
    kernels_ = std::move(pair->kernels);
    queue_ = std::move(*BlockQueue::create(worker_, channel_, std::move(pair->ours),
                                           journal_.bytes(), config_, *this));
    queue_->start();
  }

  void on_disconnect_request(BlockQueue&) override {}
  void on_socket_ended(BlockQueue&, const Error& error) override {
    RNBD_ASSERT(!std::exchange(ended_, true) && error.code > 0);
  }

  void send(std::span<const std::byte> bytes) {
    static_cast<void>(
        ::send(kernels_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
  }
  /// The queue does what it can; what it answers is thrown away.
  void settle() {
    std::array<std::byte, 65536> answers;
    bool busy = true;
    while (busy) {
      busy = worker_.round();
      while (::recv(kernels_.get(), answers.data(), answers.size(), MSG_DONTWAIT) > 0) busy = true;
    }
  }
  void answer(std::uint32_t which) {
    if (!channel_.pending.empty()) channel_.complete(which % channel_.pending.size());
  }
  void end() {
    ::shutdown(kernels_.get(), SHUT_WR);
    settle();
    while (!channel_.pending.empty()) {
      channel_.complete();
      settle();
    }
    RNBD_ASSERT(ended_ && channel_.held() == 0 && queue_->counters().in_flight == 0);
  }

 private:
  std::vector<std::byte> disk_ = std::vector<std::byte>(1 << 20);
  const BlockQueue::Config config_{.shape = {.size_bytes = disk_.size(),
                                             .block_size = 512,
                                             .max_discard_sectors = 256,
                                             .discard_granularity = 4096,
                                             .max_write_zeroes_sectors = 128},
                                   .device_id = 7,
                                   .permit_ids = kPermits,
                                   .max_requests = 16};
  MemoryBlock journal_ = *MemoryBlock::map(Journal::bytes(config_.journal_shape()));
  test::EdgeWorker worker_;
  test::FakeRequestChannel channel_{
      disk_, {.permits = kPermits, .max_io_size = 8192, .device_id = 7}, worker_};
  UniqueFd kernels_;
  std::unique_ptr<BlockQueue> queue_;
  bool ended_ = false;
};

NbdRequestHeader header(fuzz::Input& input) {
  NbdRequestHeader made;
  made.magic = kNbdRequestMagic;
  made.command = input.number<std::uint8_t>() % 8;
  made.flags = input.number<std::uint8_t>() % 4;
  made.offset = input.number<std::uint64_t>() >> (input.number<std::uint8_t>() % 64);
  made.length = input.number<std::uint32_t>() >> (input.number<std::uint8_t>() % 32);
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::fail_hard();
  fuzz::Input input(data, size);
  Stage stage;
  while (!input.empty()) {
    switch (input.number<std::uint8_t>() % 5) {
      case 0: {
        const NbdRequestHeader made = header(input);
        stage.send(std::as_bytes(std::span(&made, 1)));
        break;
      }
      case 1:
        stage.send(input.string());
        break;
      case 2:
        stage.send(std::vector<std::byte>(input.number<std::uint16_t>()));
        break;
      case 3:
        stage.settle();
        break;
      default:
        stage.settle();
        stage.answer(input.number<std::uint8_t>());
        break;
    }
  }
  stage.end();
  return 0;
}
