// SPDX-License-Identifier: Apache-2.0
// A real /dev/nbdX on two sockets, each served by a BlockQueue on a worker of its own, with a disk
// in memory in the server's place. The test's thread plays the control thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdlib>
#include <future>
#include <mutex>
#include <vector>

#include <gtest/gtest.h>

#include "client/block_queue.h"
#include "client/nbd_netlink.h"
#include "client/nbd_sysfs.h"
#include "unit/fake_request_channel.h"

namespace rnbd::test {

/// The disk of all queues. The lock is held while a request touches it.
struct SharedDisk {
  explicit SharedDisk(std::size_t size) : bytes(size) {}
  std::mutex mutex;
  std::vector<std::byte> bytes;
  std::vector<wire::Io> log;          ///< what was carried out or failed
  std::atomic<int> error = 0;         ///< for every request
  std::atomic<bool> stalled = false;  ///< requests stay unanswered
};

/// Completes what was submitted to a channel, newest first, in the worker's next round.
class Completer final : public Pollable {
 public:
  Completer(WorkerContext& worker, FakeRequestChannel& channel, SharedDisk& disk)
      : worker_(worker), channel_(channel), disk_(disk) {
    channel.on_submit = [this] { worker_.wake(*this); };
    channel.fault = [this](const FakeRequestChannel::Pending& one) {
      disk_.log.push_back(one.message);
      return disk_.error.load();
    };
    worker_.add(*this);
  }
  ~Completer() override { worker_.remove(*this); }

  std::size_t poll() override {
    if (disk_.stalled) return 0;
    const std::scoped_lock lock(disk_.mutex);
    std::size_t count = 0;
    for (; !channel_.pending.empty(); ++count) channel_.complete(channel_.pending.size() - 1);
    return count;
  }
  [[nodiscard]] int wait_fd() const override { return -1; }

 private:
  WorkerContext& worker_;
  FakeRequestChannel& channel_;
  SharedDisk& disk_;
};

/// One worker and what lives on it.
class Lane final : public client::BlockQueueEvents {
 public:
  Lane(int number, SharedDisk& disk, const client::BlockQueue::Config& config)
      : disk_(disk), config_(config) {
    auto started = Worker::start("nbd-" + std::to_string(number));
    EXPECT_TRUE(started) << describe(started.error());
    worker_ = std::move(*started);
  }
  ~Lane() override {
    on_worker([this] {
      queue_.reset();
      completer_->poll();
      EXPECT_EQ(channel_->held(), 0U) << "permits lost";
      completer_.reset();
    });
    worker_.reset();  // runs what the channel has posted
  }

  /// The kernel's end of the lane's socket.
  UniqueFd serve(FakeRequestChannel::Settings settings) {
    auto pair = client::make_nbd_socket_pair(4 << 20);
    EXPECT_TRUE(pair);
    on_worker([&] {
      channel_ = std::make_unique<FakeRequestChannel>(disk_.bytes, settings, *worker_);
      completer_ = std::make_unique<Completer>(*worker_, *channel_, disk_);
      journal_.assign(client::Journal::bytes(config_.journal_shape()), std::byte{0});
      auto made = client::BlockQueue::create(*worker_, *channel_, std::move(pair->ours), journal_,
                                             config_, *this);
      ASSERT_TRUE(made);
      queue_ = std::move(*made);
      queue_->start();
    });
    return std::move(pair->kernels);
  }

  /// Runs `task` on the worker and waits for it.
  template <typename Task>
  void on_worker(Task task) {
    std::promise<void> done;
    worker_->post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }

  client::BlockQueueCounters counters() {
    client::BlockQueueCounters counters;
    on_worker([&] { counters = queue_->counters(); });
    return counters;
  }
  void close() {
    on_worker([this] { queue_->close(); });
  }
  /// After SharedDisk::stalled was taken back.
  void go_on() {
    on_worker([this] { worker_->wake(*completer_); });
  }

  void on_disconnect_request(client::BlockQueue&) override { ++disconnects; }
  void on_socket_ended(client::BlockQueue&, const Error& error) override { ended = error.code; }

  std::atomic<int> disconnects = 0;
  std::atomic<int> ended = 0;

 private:
  SharedDisk& disk_;
  client::BlockQueue::Config config_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<FakeRequestChannel> channel_;
  std::unique_ptr<Completer> completer_;
  std::vector<std::byte> journal_;
  std::unique_ptr<client::BlockQueue> queue_;
};

}  // namespace rnbd::test
