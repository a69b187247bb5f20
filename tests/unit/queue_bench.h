// SPDX-License-Identifier: Apache-2.0
// A BlockQueue between a kernel that checks every reply and a server made of memory, all on the
// test's thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "client/block_queue.h"
#include "unit/edge_worker.h"
#include "unit/fake_nbd_kernel.h"
#include "unit/fake_request_channel.h"

namespace rnbd::test {

inline constexpr std::uint32_t kDiscardSectors = 256;
inline constexpr std::uint32_t kZeroSectors = 128;

struct QueueBench final : client::BlockQueueEvents {
  struct Settings {
    FakeRequestChannel::Settings channel;
    std::size_t disk_bytes = 4 << 20;
    int socket_bytes = 1 << 20;
    std::uint32_t max_requests = 256;
    std::uint32_t zero_sectors = kZeroSectors;
    std::uint32_t discard_sectors = kDiscardSectors;
    Duration slow_io = Duration::max();
  };

  explicit QueueBench(const Settings& settings)
      : disk(settings.disk_bytes), channel(disk, settings.channel, worker) {
    auto pair = client::make_nbd_socket_pair(settings.socket_bytes);
    EXPECT_TRUE(pair);
    kernel.emplace(std::move(pair->kernels));
    config = {.shape = {.size_bytes = settings.disk_bytes,
                        .block_size = 512,
                        .max_discard_sectors = settings.discard_sectors,
                        .discard_granularity = 4096,
                        .max_write_zeroes_sectors = settings.zero_sectors},
              .device_id = settings.channel.device_id,
              .permit_ids = settings.channel.permits,
              .max_requests = settings.max_requests,
              .slow_io = settings.slow_io};
    journal.resize(client::Journal::bytes(config.journal_shape()));
    auto made =
        client::BlockQueue::create(worker, channel, std::move(pair->ours), journal, config, *this);
    EXPECT_TRUE(made);
    queue = std::move(*made);
    queue->start();
  }

  void on_disconnect_request(client::BlockQueue&) override { ++disconnects; }
  void on_socket_ended(client::BlockQueue&, const Error& error) override {
    EXPECT_FALSE(ended) << "told twice";
    ended = error;
  }
  void on_slow_request(const client::SlowRequest& request) override { slow.push_back(request); }

  /// Moves bytes until neither side has anything to do; the server does nothing meanwhile.
  void settle() {
    for (int quiet = 0; quiet < 2;) {
      const bool moved = kernel->pump();
      quiet = worker.round() || moved ? 0 : quiet + 1;
    }
  }

  /// The same with a server that answers at once, first come first served.
  void run() {
    settle();
    while (!channel.pending.empty()) {
      channel.complete();
      settle();
    }
  }

  std::vector<std::byte> on_disk(std::uint64_t offset, std::size_t length) const {
    const auto start = disk.begin() + static_cast<std::ptrdiff_t>(offset);
    return {start, start + static_cast<std::ptrdiff_t>(length)};
  }

  client::BlockQueue::Config config;
  EdgeWorker worker;
  std::vector<std::byte> disk;
  FakeRequestChannel channel;
  std::optional<FakeNbdKernel> kernel;
  std::vector<std::byte> journal;
  std::unique_ptr<client::BlockQueue> queue;
  int disconnects = 0;
  std::optional<Error> ended;
  std::vector<client::SlowRequest> slow;
};

/// A bench that is as usual but for its channel.
inline QueueBench::Settings with(FakeRequestChannel::Settings channel) {
  return {.channel = channel};
}

}  // namespace rnbd::test
