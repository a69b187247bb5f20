// SPDX-License-Identifier: Apache-2.0
// The journal's promise: kill the process anywhere, start another one, and the kernel gets each
// answer exactly once, and the disk each write before its answer and never after it.
#include <map>
#include <optional>
#include <random>

#include <gtest/gtest.h>

#include "unit/fake_nbd_kernel.h"
#include "unit/mortal_queue.h"
#include "unit/queue_bench.h"

namespace rnbd::client {
namespace {

using test::FakeNbdKernel;
using test::MortalQueue;
using test::pattern;
using Tag = FakeNbdKernel::Tag;

/// Requests that never overlap while they are open, but often lie where one just ended: a write
/// that is done again after its answer shows as the wrong data there.
class Users {
 public:
  Users(FakeNbdKernel& kernel, std::size_t disk_bytes, unsigned seed)
      : kernel_(kernel), random_(seed), expected_(disk_bytes) {}

  void add(std::size_t depth, int& requests) {
    for (int tries = 0; requests > 0 && open_.size() < depth && tries < 8; ++tries) {
      if (add_one()) --requests;
    }
  }

  void check() {
    std::erase_if(open_, [&](const auto& one) {
      auto& request = kernel_[one.first];
      if (!request.answered) return false;
      EXPECT_EQ(request.error, 0U);
      const auto place = expected_.begin() + static_cast<std::ptrdiff_t>(request.offset);
      if (request.command == NbdCommand::Read) {
        EXPECT_TRUE(std::equal(request.data.begin(), request.data.end(), place))
            << "read " << request.offset << "+" << request.length;
      }
      return true;
    });
  }

  [[nodiscard]] bool idle() const { return open_.empty(); }
  [[nodiscard]] const std::vector<std::byte>& expected() const { return expected_; }

 private:
  std::uint32_t any(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

  bool add_one() {
    const std::uint32_t kind = any(12);
    if (kind == 0) {
      open_[kernel_.flush()] = {0, 0};
      return true;
    }
    const std::uint32_t most = any(3) == 0 ? 48 : 6;
    const std::uint32_t length = 512 * (1 + any(most));
    const std::uint64_t offset = 512 * (random_() % ((expected_.size() - length) / 512 + 1));
    for (const auto& [tag, range] : open_) {
      if (offset < range.first + range.second && range.first < offset + length) return false;
    }
    const auto place = expected_.begin() + static_cast<std::ptrdiff_t>(offset);
    Tag tag = 0;
    if (kind < 5) {
      tag = kernel_.read(offset, length);
    } else if (kind < 10) {
      auto data = pattern(length, random_());
      std::ranges::copy(data, place);
      tag = kernel_.write(offset, std::move(data));
    } else {
      std::fill_n(place, length, std::byte{0});
      tag = kind == 10 ? kernel_.trim(offset, length) : kernel_.write_zeroes(offset, length);
    }
    open_[tag] = {offset, length};
    return true;
  }

  FakeNbdKernel& kernel_;
  std::mt19937 random_;
  std::vector<std::byte> expected_;
  std::map<Tag, std::pair<std::uint64_t, std::uint64_t>> open_;
};

#ifdef RNBD_SANITIZED
// A fork copies the sanitizer's memory too, and takes 50 times longer.
constexpr unsigned kSeeds = 1;
constexpr int kRequests = 40;
#else
constexpr unsigned kSeeds = 12;
constexpr int kRequests = 150;
#endif

struct Dying {
  unsigned calls;         ///< system calls, their begin and end, that a life has at most
  unsigned instructions;  ///< behind the last of them, at most
  bool trickle;           ///< the kernel sends and reads a few bytes at a time
  int socket_bytes;
};

/// What a successor would find, seen from here: on copies, so that the real one finds it too.
void expect_recoverable(const test::Remains& remains) {
  std::vector<std::uint64_t> copy(remains.journal().size() / sizeof(std::uint64_t));
  const auto bytes = std::as_writable_bytes(std::span(copy));
  std::ranges::copy(remains.journal(), bytes.begin());
  const auto found = Journal(bytes, remains.config.journal_shape()).recover();
  ASSERT_TRUE(found) << found.error().message;
  const auto again = Journal(bytes, remains.config.journal_shape()).recover();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->open, found->open);
  EXPECT_EQ(again->half_sent.has_value(), found->half_sent.has_value());
}

/// A device, its users, and one process after another that serves them.
class Story {
 public:
  Story(const Dying& dying, unsigned seed) : dying_(dying), twister_(seed) {
    auto pair = make_nbd_socket_pair(dying.socket_bytes);
    EXPECT_TRUE(pair);
    socket_ = std::move(pair->ours);
    kernel_.emplace(std::move(pair->kernels));
    users_.emplace(*kernel_, remains_.disk().size(), seed);
  }

  [[nodiscard]] bool goes_on() const { return requests_ > 0 || !users_->idle(); }
  unsigned random() { return static_cast<unsigned>(twister_()); }
  [[nodiscard]] unsigned lives() const { return lives_; }

  /// A process that is killed. Each life a little longer: in the end somebody must get it done.
  void live_and_die() {
    MortalQueue queue(remains_, socket_.get(), random());
    const unsigned calls = random() % (dying_.calls + lives_ / 8);
    for (unsigned i = 0; i < calls && !testing::Test::HasFatalFailure(); ++i) {
      users_->add(24, requests_);
      move_bytes();
      queue.to_next_call();
    }
    const unsigned instructions = random() % dying_.instructions;
    for (unsigned i = 0; i < instructions && !testing::Test::HasFatalFailure(); ++i) {
      queue.one_instruction();
    }
    queue.kill();
    expect_recoverable(remains_);
    ASSERT_LT(++lives_, 20000U) << "stuck";
  }

  /// This process goes on from wherever the others have got, and gets it done.
  void finish_here() {
    test::EdgeWorker worker;
    test::MortalChannel channel(remains_, random());
    Ends ends;
    auto queue = BlockQueue::create(worker, channel, UniqueFd(::dup(socket_.get())),
                                    remains_.journal(), remains_.config, ends);
    ASSERT_TRUE(queue) << queue.error().message;
    (*queue)->start();
    for (int rounds = 0; goes_on() || (*queue)->in_flight() > 0; ++rounds) {
      ASSERT_LT(rounds, 1'000'000) << "stuck";
      users_->add(24, requests_);
      move_bytes();
      worker.round();
      channel.work();
      if (testing::Test::HasFailure()) return;
    }
  }

  void expect_all_done() const {
    EXPECT_TRUE(std::ranges::equal(remains_.disk(), users_->expected()));
    Journal journal(remains_.journal(), remains_.config.journal_shape());
    const auto recovered = journal.recover();
    ASSERT_TRUE(recovered);
    EXPECT_TRUE(recovered->open.empty() && !recovered->half_sent);
    EXPECT_TRUE(journal.permits().empty());
  }

 private:
  struct Ends final : BlockQueueEvents {
    void on_disconnect_request(BlockQueue&) override {}
    void on_socket_ended(BlockQueue&, const Error& error) override {
      ADD_FAILURE() << error.message;
    }
  };

  void move_bytes() {
    if (dying_.trickle) {
      kernel_->send_step = 1 + random() % 3000;
      kernel_->receive_step = 1 + random() % 3000;
    }
    kernel_->pump();
    users_->check();
  }

  const Dying dying_;
  std::mt19937 twister_;
  UniqueFd socket_;
  std::optional<FakeNbdKernel> kernel_;
  const test::Remains remains_{test::MortalShape{}};
  std::optional<Users> users_;
  int requests_ = kRequests;
  unsigned lives_ = 0;
};

class JournalUnderKills : public testing::TestWithParam<Dying> {};

TEST_P(JournalUnderKills, AnswersEachRequestExactlyOnce) {
  for (unsigned seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Story story(GetParam(), seed);
    while (story.goes_on()) {
      story.live_and_die();
      if (HasFailure()) return;
    }
    RecordProperty("lives", static_cast<int>(story.lives()));
    story.expect_all_done();
  }
}

TEST_P(JournalUnderKills, LeavesToASuccessorWhatItCanFinish) {
  for (unsigned seed = 1; seed <= 8 * kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Story story(GetParam(), seed);
    for (unsigned lives = 1 + story.random() % 5; lives > 0 && story.goes_on(); --lives) {
      story.live_and_die();
      if (HasFailure()) return;
    }
    story.finish_here();
    if (HasFailure()) return;
    story.expect_all_done();
  }
}

INSTANTIATE_TEST_SUITE_P(Deaths, JournalUnderKills,
                         testing::Values(Dying{60, 1, false, 1 << 20},    // at system calls
                                         Dying{20, 150, false, 1 << 20},  // anywhere behind them
                                         Dying{150, 150, true, 4096}));

}  // namespace
}  // namespace rnbd::client
