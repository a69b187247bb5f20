// SPDX-License-Identifier: Apache-2.0
// A request channel whose server is a piece of memory. Requests wait until the test completes them,
// in any order, and touch their buffers only then; buffers are spoilt when a permit returns, so
// that using one too early or too late shows as wrong data.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "common/executor.h"
#include "common/rnbd_wire.h"
#include "transport/rtrs/request_channel.h"

namespace rnbd::test {

class FakeRequestChannel final : public rtrs::RequestChannel {
 public:
  struct Settings {
    std::uint32_t permits = 16;
    std::uint32_t max_io_size = 126976;
    std::uint32_t device_id = 7;
  };

  struct Pending {
    rtrs::PermitId permit = 0;
    rtrs::Direction direction{};
    std::uint32_t data_length = 0;
    wire::Io message;
    rtrs::RequestOwner* owner = nullptr;
  };

  /// `executor`: the thread it lives on, where waiters are told.
  FakeRequestChannel(std::vector<std::byte>& disk, Settings settings, Executor& executor)
      : disk_(disk),
        executor_(executor),
        settings_(settings),
        buffers_(settings.permits, std::vector<std::byte>(settings.max_io_size)),
        states_(settings.permits, State::Free) {
    trips.resize(settings.permits);
    for (std::uint32_t i = 0; i < settings.permits; ++i) {
      free_.push_back(static_cast<rtrs::PermitId>(i));
    }
  }

  std::uint32_t max_io_size() const override { return settings_.max_io_size; }
  std::uint32_t max_permits() const override { return settings_.permits; }

  bool acquire(std::span<rtrs::PermitId> permits, rtrs::PermitWaiter& waiter) override {
    EXPECT_TRUE(std::ranges::find(waiters_, &waiter, &Waiter::waiter) == waiters_.end())
        << "asked again while it waits";
    const bool behind = !waiters_.empty() && !telling_;
    if (refusals > 0 || behind || free_.size() < permits.size()) {
      if (refusals > 0) --refusals;
      waiters_.push_back({&waiter, permits.size()});
      return false;
    }
    for (rtrs::PermitId& permit : permits) {
      permit = free_.front();
      free_.pop_front();
      states_[permit] = State::Held;
    }
    most_held = std::max(most_held, held());
    return true;
  }

  void cancel_wait(rtrs::PermitWaiter& waiter) override {
    std::erase_if(waiters_, [&](const Waiter& one) { return one.waiter == &waiter; });
  }

  void release(std::span<const rtrs::PermitId> permits) override {
    for (const rtrs::PermitId permit : permits) {
      ASSERT_EQ(states_[permit], State::Held) << "permit " << permit;
      put_back(permit);
    }
    wake();
  }

  std::span<std::byte> buffer(rtrs::PermitId permit) override {
    EXPECT_EQ(states_[permit], State::Held) << "somebody else's buffer: permit " << permit;
    return buffers_[permit];
  }

  void submit(rtrs::PermitId permit, rtrs::Direction direction, std::uint32_t data_length,
              std::span<const std::byte> user_message, rtrs::RequestOwner& owner) override {
    ASSERT_EQ(states_[permit], State::Held);
    ASSERT_EQ(user_message.size(), sizeof(wire::Io));
    ASSERT_LE(data_length, settings_.max_io_size);
    states_[permit] = State::Submitted;
    pending.push_back({permit, direction, data_length, load<wire::Io>(user_message), &owner});
    seen.push_back(pending.back());
    if (on_submit) on_submit();
  }

  rtrs::RequestTrip trip(rtrs::PermitId permit) const override { return trips[permit]; }

  void abandon(rtrs::RequestOwner& owner) override {
    for (Pending& one : pending) {
      if (one.owner == &owner) one.owner = nullptr;
    }
  }

  /// Ends the pending request number `which`: carried out, or failed with what `fault` says.
  void complete(std::size_t which = 0) {
    const Pending done = pending[which];
    pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(which));
    const int error = fault ? fault(done) : 0;
    if (error == 0) carry_out(done);
    states_[done.permit] = State::Held;
    if (done.owner != nullptr) {
      done.owner->on_request_done(done.permit, error);
    } else {
      put_back(done.permit);
      wake();
    }
  }

  [[nodiscard]] std::size_t held() const { return settings_.permits - free_.size(); }

  std::deque<Pending> pending;
  std::vector<Pending> seen;             ///< all that were ever submitted
  std::vector<rtrs::RequestTrip> trips;  ///< by permit; the test says
  std::function<void()> on_submit;
  std::function<int(const Pending&)> fault;  ///< errno for a request
  int refusals = 0;                          ///< so many acquire() are refused for no reason
  std::size_t most_held = 0;

 private:
  enum class State { Free, Held, Submitted };
  struct Waiter {
    rtrs::PermitWaiter* waiter = nullptr;
    std::size_t count = 0;
  };

  void put_back(rtrs::PermitId permit) {
    states_[permit] = State::Free;
    std::ranges::fill(buffers_[permit], std::byte{0xdd});
    free_.push_back(permit);
  }

  void wake() {
    executor_.post([this] { tell_waiters(); });
  }

  /// First come, first served: who is told tries at once, the others queue up behind.
  void tell_waiters() {
    telling_ = true;
    while (!waiters_.empty() && free_.size() >= waiters_.front().count) {
      rtrs::PermitWaiter* waiter = waiters_.front().waiter;
      waiters_.pop_front();
      waiter->on_permits_available();
    }
    telling_ = false;
  }

  void carry_out(const Pending& one) {
    ASSERT_EQ(one.message.header.type, static_cast<std::uint16_t>(wire::MessageType::Io));
    ASSERT_EQ(one.message.device_id, settings_.device_id);
    const std::uint64_t start = one.message.sector * wire::kSectorSize;
    const std::uint32_t size = one.message.size;
    ASSERT_LE(start + size, disk_.size());
    const auto place = disk_.begin() + static_cast<std::ptrdiff_t>(start);
    const auto end = place + static_cast<std::ptrdiff_t>(size);
    auto& buffer = buffers_[one.permit];
    switch (static_cast<wire::Operation>(one.message.rw & wire::kOperationMask)) {
      case wire::Operation::Read:
        ASSERT_EQ(one.data_length, size);
        std::copy(place, end, buffer.begin());
        break;
      case wire::Operation::Write:
        ASSERT_EQ(one.data_length, size);
        std::copy_n(buffer.begin(), size, place);
        break;
      case wire::Operation::Discard:
      case wire::Operation::WriteZeroes:
        ASSERT_EQ(one.data_length, 0U);
        std::fill(place, end, std::byte{0});
        break;
      case wire::Operation::Flush:
        ASSERT_EQ(size, 0U);
        break;
      case wire::Operation::SecureErase:
        FAIL() << "nobody asks for that";
    }
  }

  std::vector<std::byte>& disk_;
  Executor& executor_;
  Settings settings_;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<State> states_;
  std::deque<rtrs::PermitId> free_;
  std::deque<Waiter> waiters_;
  bool telling_ = false;
};

}  // namespace rnbd::test
