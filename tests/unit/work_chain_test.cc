// SPDX-License-Identifier: Apache-2.0
// What is signalled, and what a completion frees.
#include "transport/rtrs/work_chain.h"

#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"

namespace rnbd::rtrs {
namespace {

using limits::kSignalInterval;
using transport::WorkKind;
using transport::WorkRequest;

constexpr WorkRequest kSend{.kind = WorkKind::Send};
constexpr WorkRequest kBind{.kind = WorkKind::BindWindow};

/// Keeps what is posted.
class Recorder final : public transport::Endpoint {
 public:
  std::vector<WorkRequest> posted;

  void set_events(transport::EndpointEvents&) override {}
  transport::Device& device() override { std::unreachable(); }
  Status open_queue(const transport::QueueSize&) override { return {}; }
  Status connect(std::span<const std::byte>) override { return {}; }
  Status accept(std::span<const std::byte>) override { return {}; }
  void reject(std::span<const std::byte>) override {}
  void disconnect() override {}
  void close_queue() override {}
  [[nodiscard]] std::string local_address() const override { return {}; }
  [[nodiscard]] std::string peer_address() const override { return {}; }
  Status post(std::span<const WorkRequest> work) override {
    posted.insert(posted.end(), work.begin(), work.end());
    return {};
  }
  Status post_receives(std::span<const transport::ReceiveRequest>) override { return {}; }
  std::size_t poll(std::span<transport::Completion>) override { return 0; }
  bool arm() override { return true; }
  [[nodiscard]] int wait_fd() const override { return -1; }
};

class WorkChainTest : public testing::Test {
 protected:
  void add(const WorkRequest& work, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) chain_.add(work);
    flush();
  }
  void flush() { ASSERT_TRUE(chain_.flush(recorder_)); }
  /// The completion of what was posted as number `index` comes.
  void complete(std::size_t index) {
    ASSERT_TRUE(recorder_.posted[index].signalled);
    chain_.on_done(Tag::unpack(recorder_.posted[index].id));
  }

  WorkChain chain_{4 * kSignalInterval};
  Recorder recorder_;
};

TEST_F(WorkChainTest, OneSendInAnIntervalIsSignalledAndFreesThoseBeforeIt) {
  add(kSend, kSignalInterval + 3);
  for (std::uint32_t i = 0; i < kSignalInterval + 3; ++i) {
    EXPECT_EQ(recorder_.posted[i].signalled, i == kSignalInterval - 1) << i;
  }
  complete(kSignalInterval - 1);
  EXPECT_EQ(chain_.in_use(), 3U);
}

TEST_F(WorkChainTest, ABindThatIsDoneSaysNothingOfSends) {
  add(kSend, 5);
  chain_.add_signalled(kBind, 77);
  flush();
  EXPECT_EQ(Tag::unpack(recorder_.posted[5].id).index, 77U);
  complete(5);
  EXPECT_EQ(chain_.in_use(), 5U);
}

TEST_F(WorkChainTest, SignalledBindsBetweenSendsLeaveNoSendUnsignalledForGood) {
  for (std::uint32_t i = 0; i < kSignalInterval; ++i) {
    chain_.add_signalled(kBind, i);
    chain_.add(kSend);
  }
  flush();
  EXPECT_TRUE(recorder_.posted.back().signalled);
}

TEST_F(WorkChainTest, ASendThatIsDoneFreesTheBindsInFrontOfIt) {
  add(kBind, 3);
  chain_.add_mark(kSend);
  flush();
  add(kBind, 2);
  complete(3);
  EXPECT_EQ(chain_.in_use(), 2U);
}

TEST_F(WorkChainTest, BindsThatAreDoneAlreadyAreNotFreedAgain) {
  add(kBind, 3);
  chain_.add_mark(kSend);
  chain_.add_signalled(kBind, 0);
  flush();
  complete(4);
  EXPECT_EQ(chain_.in_use(), 1U);
  complete(3);
  EXPECT_EQ(chain_.in_use(), 0U);
}

TEST_F(WorkChainTest, CountsOnForLongerThanTagsDo) {
  for (std::uint32_t i = 0; i < (1U << 16) / kSignalInterval + 2; ++i) {
    recorder_.posted.clear();
    add(kSend, kSignalInterval);
    add(kBind, kSignalInterval);
    complete(2 * kSignalInterval - 1);
    ASSERT_EQ(chain_.in_use(), kSignalInterval) << i;
    complete(kSignalInterval - 1);
    ASSERT_EQ(chain_.in_use(), 0U) << i;
  }
}

}  // namespace
}  // namespace rnbd::rtrs
