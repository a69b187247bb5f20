// SPDX-License-Identifier: Apache-2.0
// Whole requests as the kernel makes them: an NBD header into one end of a socket pair, BlockQueue
// and its journal, both engines, the server's dispatcher, and the reply back out of the socket.
#include <array>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "client/block_queue.h"
#include "client/journal.h"
#include "common/assert.h"
#include "micro/case.h"
#include "micro/engine_pair.h"

namespace rnbd::micro {
namespace {

constexpr int kSocketBytes = 1 << 20;

class DeviceStage final : public Stage, public client::BlockQueueEvents {
 public:
  explicit DeviceStage(client::NbdCommand command) : pair_(false), writes_(is_write(command)) {
    auto sockets = client::make_nbd_socket_pair(kSocketBytes);
    RNBD_ASSERT(sockets);
    kernel_ = std::move(sockets->kernels);
    const client::BlockQueue::Config config{.shape = {.size_bytes = kDiskBytes},
                                            .device_id = NullServer::kDevice,
                                            .permit_ids = kQueueDepth};
    journal_.resize(client::Journal::bytes(config.journal_shape()) / sizeof(std::uint64_t) + 1);
    auto made =
        client::BlockQueue::create(pair_.worker(), pair_.queue(), std::move(sockets->ours),
                                   std::as_writable_bytes(std::span(journal_)), config, *this);
    RNBD_ASSERT(made);
    queue_ = std::move(*made);
    queue_->start();
    request_.header.magic = client::kNbdRequestMagic;
    request_.header.command = std::to_underlying(command);
    request_.header.length = kIoBytes;
  }

  void run(std::size_t times) override {
    for (std::size_t i = 0; i < times; i += kBatch) batch();
  }

 private:
  struct Request {
    client::NbdRequestHeader header;
    std::array<std::byte, kIoBytes> data{};
  };
  struct Reply {
    client::NbdReplyHeader header;
    std::array<std::byte, kIoBytes> data{};
  };

  static bool is_write(client::NbdCommand command) { return command == client::NbdCommand::Write; }

  void batch() {
    const std::size_t request = sizeof(request_.header) + (writes_ ? kIoBytes : 0);
    for (std::size_t i = 0; i < kBatch; ++i) {
      RNBD_ASSERT(::send(kernel_.get(), &request_, request, 0) == static_cast<ssize_t>(request));
    }
    const std::size_t reply = sizeof(client::NbdReplyHeader) + (writes_ ? 0 : kIoBytes);
    for (std::size_t got = 0; got < kBatch * reply;) {
      pair_.turn();
      got += receive();
    }
  }

  std::size_t receive() {
    std::size_t total = 0;
    for (;;) {
      const ssize_t got = ::recv(kernel_.get(), &replies_, sizeof(replies_), MSG_DONTWAIT);
      if (got < 0) {
        RNBD_ASSERT(errno == EAGAIN);
        return total;
      }
      total += static_cast<std::size_t>(got);
    }
  }

  void on_disconnect_request(client::BlockQueue&) override {}
  void on_socket_ended(client::BlockQueue&, const Error&) override { RNBD_ASSERT(false); }

  EnginePair pair_;
  const bool writes_;
  UniqueFd kernel_;
  std::vector<std::uint64_t> journal_;  // aligned
  Request request_;
  std::array<Reply, kBatch> replies_;
  std::unique_ptr<client::BlockQueue> queue_;
};

}  // namespace

std::vector<Case> device_cases() {
  return {{"device-write", [] { return std::make_unique<DeviceStage>(client::NbdCommand::Write); }},
          {"device-read", [] { return std::make_unique<DeviceStage>(client::NbdCommand::Read); }}};
}

std::vector<Case> all_cases() {
  std::vector<Case> all = part_cases();
  for (auto& more : {engine_cases(), device_cases()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace rnbd::micro
