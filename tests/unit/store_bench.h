// SPDX-License-Identifier: Apache-2.0
// A worker with a store on it, driven from a test's thread.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <future>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "common/memory_block.h"
#include "server/uring_store.h"
#include "transport/worker.h"

namespace rnbd::test {

inline constexpr std::chrono::seconds kPatience{30};

/// Counts its calls and lets a test wait for the first.
class WaitingClient final : public server::StoreClient {
 public:
  void on_store_done(int error) override {
    if (++calls_ == 1) outcome_.set_value(error);
  }

  /// The outcome, or -1 after kPatience.
  int wait() { return done_.wait_for(kPatience) == std::future_status::ready ? done_.get() : -1; }

 private:
  int calls_ = 0;
  std::promise<int> outcome_;
  std::future<int> done_ = outcome_.get_future();
};

class StoreBench {
 public:
  StoreBench() {
    auto worker = Worker::start("test");
    EXPECT_TRUE(worker) << describe(worker.error());
    worker_ = std::move(*worker);
    run([this] {
      auto store = server::UringStore::create(*worker_);
      ASSERT_TRUE(store) << describe(store.error());
      store_ = std::move(*store);
    });
  }
  StoreBench(const StoreBench&) = delete;
  StoreBench& operator=(const StoreBench&) = delete;
  ~StoreBench() {
    run([this] {
      EXPECT_EQ(store_->in_flight(), 0U);
      EXPECT_EQ(store_->waiting(), 0U);
      EXPECT_EQ(store_->stale_completions(), 0U);
      store_.reset();
    });
  }

  /// Runs `task` on the worker's thread and returns what it returns.
  template <std::invocable Task>
  std::invoke_result_t<Task> run(Task task) {
    std::packaged_task<std::invoke_result_t<Task>()> job(std::move(task));
    auto done = job.get_future();
    worker_->post(std::move(job));
    return done.get();
  }

  /// Submits one operation and waits for its end.
  int execute(const server::StoreOperation& operation, const server::StoreTarget& target) {
    WaitingClient client;
    run([&] { store_->submit(operation, target, client); });
    return client.wait();
  }

  /// Touched inside run() only.
  server::UringStore& store() { return *store_; }

 private:
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<server::UringStore> store_;
};

/// Page-aligned memory.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : block_(std::move(*MemoryBlock::map(bytes))) {}

  [[nodiscard]] std::span<std::byte> bytes() const { return block_.bytes(); }
  [[nodiscard]] std::byte* data() const { return bytes().data(); }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(bytes().size()); }

  void fill_random(std::uint32_t seed) const {
    std::mt19937 random(seed);
    std::ranges::generate(bytes(), [&] { return static_cast<std::byte>(random()); });
  }
  [[nodiscard]] bool is_zero() const {
    return std::ranges::all_of(bytes(), [](std::byte value) { return value == std::byte{0}; });
  }
  [[nodiscard]] bool equals(const Buffer& other) const {
    return std::ranges::equal(bytes(), other.bytes());
  }

 private:
  MemoryBlock block_;
};

}  // namespace rnbd::test
