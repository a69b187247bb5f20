// SPDX-License-Identifier: Apache-2.0
// A BlockQueue in a child process that is stopped at every system call, and killed between any two
// instructions. What survives it, journal, buffers and the server's disk, is shared memory; what it
// does depends on seeds alone.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <signal.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "client/block_queue.h"
#include "common/memory_block.h"
#include "common/rnbd_wire.h"
#include "unit/edge_worker.h"

namespace rnbd::test {

struct MortalShape {
  std::uint32_t permits = 8;
  std::uint32_t max_io_size = 8192;
  std::size_t disk_bytes = 256 << 10;
  std::uint32_t max_requests = 32;
};

/// What outlives each child.
class Remains {
 public:
  explicit Remains(const MortalShape& shape)
      : config{.shape = {.size_bytes = shape.disk_bytes,
                         .block_size = 512,
                         .max_discard_sectors = 64,
                         .discard_granularity = 512,
                         .max_write_zeroes_sectors = 32},
               .permit_ids = shape.permits,
               .max_requests = shape.max_requests},
        shape_(shape),
        journal_bytes_((client::Journal::bytes(config.journal_shape()) + 4095) / 4096 * 4096) {
    const std::size_t bytes =
        journal_bytes_ + std::size_t{shape.permits} * shape.max_io_size + shape.disk_bytes;
    void* const address =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(address, MAP_FAILED);
    all_ = {static_cast<std::byte*>(address), bytes};
  }
  ~Remains() { ::munmap(all_.data(), all_.size()); }
  Remains(const Remains&) = delete;
  Remains& operator=(const Remains&) = delete;

  [[nodiscard]] std::span<std::byte> journal() const { return all_.first(journal_bytes_); }
  [[nodiscard]] std::span<std::byte> buffer(std::uint32_t permit) const {
    return all_.subspan(journal_bytes_ + permit * shape_.max_io_size, shape_.max_io_size);
  }
  [[nodiscard]] std::span<std::byte> disk() const { return all_.last(shape_.disk_bytes); }
  [[nodiscard]] const MortalShape& shape() const { return shape_; }

  client::BlockQueue::Config config;

 private:
  MortalShape shape_;
  std::size_t journal_bytes_;
  std::span<std::byte> all_;
};

/// A server and its session as one life of the process sees them: permits that hold data are taken
/// from the start; what is executed stays executed.
class MortalChannel final : public rtrs::RequestChannel {
 public:
  MortalChannel(const Remains& remains, unsigned seed) : remains_(remains), random_(seed) {
    client::Journal journal(remains.journal(), remains.config.journal_shape());
    if (!journal.recover()) ::_exit(70);
    taken_.resize(remains.shape().permits);
    for (const rtrs::PermitId permit : journal.permits()) taken_[permit] = true;
  }

  std::uint32_t max_io_size() const override { return remains_.shape().max_io_size; }
  std::uint32_t max_permits() const override { return remains_.shape().permits; }

  bool acquire(std::span<rtrs::PermitId> permits, rtrs::PermitWaiter& waiter) override {
    if (waiter_ != nullptr || std::ranges::count(taken_, false) < std::ssize(permits)) {
      waiter_ = &waiter;
      wanted_ = permits.size();
      return false;
    }
    for (rtrs::PermitId& permit : permits) {
      permit = static_cast<rtrs::PermitId>(std::ranges::find(taken_, false) - taken_.begin());
      taken_[permit] = true;
    }
    return true;
  }
  void cancel_wait(rtrs::PermitWaiter&) override { waiter_ = nullptr; }
  void release(std::span<const rtrs::PermitId> permits) override {
    for (const rtrs::PermitId permit : permits) {
      if (!taken_[permit]) ::_exit(71);
      taken_[permit] = false;
      std::ranges::fill(remains_.buffer(permit), std::byte{0xdd});
    }
  }
  std::span<std::byte> buffer(rtrs::PermitId permit) override { return remains_.buffer(permit); }
  void submit(rtrs::PermitId permit, rtrs::Direction, std::uint32_t,
              std::span<const std::byte> message, rtrs::RequestOwner& owner) override {
    pending_.push_back({permit, load<wire::Io>(message), &owner});
  }
  rtrs::RequestTrip trip(rtrs::PermitId) const override { return {}; }
  void abandon(rtrs::RequestOwner&) override { pending_.clear(); }

  /// Some requests are executed, in any order, and some of their answers arrive.
  bool work() {
    for (std::size_t i = random_() % 3; i > 0 && !pending_.empty(); --i) {
      const std::size_t which = random_() % pending_.size();
      const Pending done = pending_[which];
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(which));
      execute(done);
      done.owner->on_request_done(done.permit, 0);
    }
    if (waiter_ != nullptr && std::ranges::count(taken_, false) >= static_cast<long>(wanted_)) {
      std::exchange(waiter_, nullptr)->on_permits_available();
    }
    return !pending_.empty();
  }

 private:
  struct Pending {
    rtrs::PermitId permit = 0;
    wire::Io message;
    rtrs::RequestOwner* owner = nullptr;
  };

  void execute(const Pending& one) {
    const std::uint32_t size = one.message.size;
    const auto place = remains_.disk().subspan(one.message.sector * wire::kSectorSize, size);
    switch (static_cast<wire::Operation>(one.message.rw & wire::kOperationMask)) {
      case wire::Operation::Read:
        std::ranges::copy(place, remains_.buffer(one.permit).begin());
        break;
      case wire::Operation::Write:
        std::ranges::copy(remains_.buffer(one.permit).first(size), place.begin());
        break;
      case wire::Operation::Discard:
      case wire::Operation::WriteZeroes:
        std::ranges::fill(place, std::byte{0});
        break;
      case wire::Operation::Flush:
      case wire::Operation::SecureErase:
        break;
    }
  }

  const Remains& remains_;
  std::minstd_rand random_;
  std::vector<bool> taken_;
  std::deque<Pending> pending_;
  rtrs::PermitWaiter* waiter_ = nullptr;
  std::size_t wanted_ = 0;
};

/// One life: a child that serves `socket` until it is killed.
class MortalQueue {
 public:
  MortalQueue(const Remains& remains, int socket, unsigned seed) : child_(::fork()) {
    if (child_ == 0) live(remains, socket, seed);
    EXPECT_GT(child_, 0);
    EXPECT_EQ(::waitpid(child_, &status_, 0), child_);
    EXPECT_TRUE(WIFSTOPPED(status_));
  }
  ~MortalQueue() { kill(); }
  MortalQueue(const MortalQueue&) = delete;
  MortalQueue& operator=(const MortalQueue&) = delete;

  /// Runs to the begin or the end of its next system call.
  void to_next_call() { go(PTRACE_SYSCALL); }

  void one_instruction() { go(PTRACE_SINGLESTEP); }

  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    EXPECT_EQ(::waitpid(child_, &status_, 0), child_);
    child_ = 0;
  }

 private:
  struct NoEvents final : client::BlockQueueEvents {
    void on_disconnect_request(client::BlockQueue&) override {}
    void on_socket_ended(client::BlockQueue&, const Error&) override { ::_exit(72); }
  };

  [[noreturn]] static void live(const Remains& remains, int socket, unsigned seed) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    EdgeWorker worker;
    MortalChannel channel(remains, seed);
    NoEvents events;
    auto queue = client::BlockQueue::create(worker, channel, UniqueFd(socket), remains.journal(),
                                            remains.config, events);
    if (!queue) ::_exit(73);
    (*queue)->start();
    for (;;) {
      worker.round();
      channel.work();
      if (testing::Test::HasFailure()) ::_exit(74);
    }
  }

  void go(__ptrace_request how) {
    ASSERT_EQ(::ptrace(how, child_, nullptr, nullptr), 0);
    ASSERT_EQ(::waitpid(child_, &status_, 0), child_);
    ASSERT_TRUE(WIFSTOPPED(status_) && WSTOPSIG(status_) == SIGTRAP)
        << "it ended by itself: " << (WIFEXITED(status_) ? WEXITSTATUS(status_) : status_);
  }

  pid_t child_;
  int status_ = 0;
};

}  // namespace rnbd::test
