// SPDX-License-Identifier: Apache-2.0
// What a successor makes of the journal that a dead process left, sound or damaged.
#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/journal.h"
#include "client/nbd_socket.h"
#include "unit/fake_nbd_kernel.h"

namespace rnbd::client {
namespace {

using test::FakeNbdKernel;
using test::pattern;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr JournalShape kFewSlots{.requests = 4, .permits = 4};
constexpr std::uint32_t kDataLength = 512;
constexpr std::size_t kHeaderLength = sizeof(NbdRequestHeader);
constexpr std::size_t kBegun = 100;  ///< bytes of a reply that went out

using Memory = std::vector<std::uint64_t>;

std::span<std::byte> bytes_of(Memory& memory) { return std::as_writable_bytes(std::span(memory)); }

class JournalRecovery : public testing::Test {
 protected:
  JournalRecovery() {
    auto pair = make_nbd_socket_pair(1 << 20);
    EXPECT_TRUE(pair);
    socket_ = std::move(pair->ours);
    kernel_ = std::make_unique<FakeNbdKernel>(std::move(pair->kernels));
  }

  /// The kernel's next request becomes `slot`'s.
  void open(std::uint16_t slot) {
    kernel_->pump();
    ASSERT_EQ(journal_.receive_ahead(socket_.get(), kHeaderLength), kHeaderLength);
    journal_.open(slot);
  }
  void open_write(std::uint16_t slot, std::uint16_t permit) {
    kernel_->write(0, pattern(kDataLength, slot));
    open(slot);
    journal_.hold(slot, {.permit = permit, .offset = 0, .length = kDataLength});
    std::vector<std::byte> buffer(kDataLength);
    ASSERT_EQ(journal_.receive_payload(socket_.get(), buffer, 0), kDataLength);
  }
  void open_read(std::uint16_t slot, std::uint16_t permit) {
    kernel_->read(0, kDataLength);
    open(slot);
    journal_.hold(slot, {.permit = permit, .offset = 0, .length = kDataLength});
  }
  void queue_reply(std::uint16_t slot) {
    journal_.queue_reply(slot, sizeof(NbdReplyHeader));
    journal_.extend_reply(kDataLength);
  }
  void send(std::size_t bytes) {
    std::vector<std::byte> data(bytes);
    iovec piece{data.data(), data.size()};
    ASSERT_EQ(journal_.send(socket_.get(), {&piece, 1}), bytes);
  }
  /// A write that the server has not answered, a read half answered, a flush, a read whose answer
  /// waits behind the other one's, and the begin of the next header.
  void leave_everything() {
    open_write(3, 2);
    open_read(1, 0);
    kernel_->flush();
    open(0);
    open_read(2, 3);
    kernel_->read(0, kDataLength);
    kernel_->pump();
    ASSERT_EQ(journal_.receive_ahead(socket_.get(), 5), 5U);
    queue_reply(1);
    queue_reply(2);
    send(kBegun);
  }

  UniqueFd socket_;
  std::unique_ptr<FakeNbdKernel> kernel_;
  Memory memory_ = Memory(Journal::bytes(kFewSlots) / sizeof(std::uint64_t));
  Journal journal_{bytes_of(memory_), kFewSlots};
};

TEST_F(JournalRecovery, OfAnEmptyJournalIsNothing) {
  const auto found = journal_.recover();
  ASSERT_TRUE(found);
  EXPECT_THAT(found->open, IsEmpty());
  EXPECT_FALSE(found->half_sent);
}

TEST_F(JournalRecovery, FindsWhatIsLeftToDo) {
  leave_everything();
  Journal successor(bytes_of(memory_), kFewSlots);
  const auto found = successor.recover();
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_THAT(found->open, ElementsAre(3, 0, 2)) << "the oldest first";
  ASSERT_TRUE(found->half_sent);
  EXPECT_EQ(found->half_sent->slot, 1);
  EXPECT_EQ(found->half_sent->sent, kBegun);
  EXPECT_THAT(successor.permits(), ElementsAre(0, 2)) << "what waits to be answered is read anew";
  ASSERT_EQ(successor.pieces(3).size(), 1U);
  EXPECT_EQ(successor.pieces(3)[0].length, kDataLength);
  EXPECT_EQ(successor.payload_received(3), kDataLength);
  EXPECT_EQ(successor.ahead(), 5U);
}

TEST_F(JournalRecovery, MayBeDoneAgain) {
  leave_everything();
  ASSERT_TRUE(journal_.recover());
  const Memory once = memory_;
  const auto again = Journal(bytes_of(memory_), kFewSlots).recover();
  ASSERT_TRUE(again);
  EXPECT_EQ(memory_, once);
  EXPECT_THAT(again->open, ElementsAre(3, 0, 2));
}

TEST_F(JournalRecovery, ForgetsWhatWasAnswered) {
  open_read(0, 1);
  queue_reply(0);
  send(sizeof(NbdReplyHeader) + kDataLength);
  const auto found = journal_.recover();
  ASSERT_TRUE(found);
  EXPECT_THAT(found->open, IsEmpty());
  EXPECT_FALSE(found->half_sent);
  EXPECT_THAT(journal_.permits(), IsEmpty());
}

TEST_F(JournalRecovery, DropsTheDataOfWhatHasFailed) {
  open_write(0, 1);
  journal_.set_error(0, EIO);
  const auto found = journal_.recover();
  ASSERT_TRUE(found);
  EXPECT_THAT(found->open, ElementsAre(0));
  EXPECT_EQ(journal_.error(0), EIO);
  EXPECT_THAT(journal_.permits(), IsEmpty());
}

TEST_F(JournalRecovery, TakesTheKernelsWordForACallWhoseResultNobodySaw) {
  kernel_->read(0, kDataLength);
  kernel_->pump();
  // A journal begins with how much of the stream is parsed, and how much received.
  const std::uint64_t received = memory_[1];
  ASSERT_EQ(journal_.receive_ahead(socket_.get(), kHeaderLength), kHeaderLength);
  memory_[1] = received;
  Journal successor(bytes_of(memory_), kFewSlots);
  ASSERT_TRUE(successor.recover());
  ASSERT_EQ(successor.ahead(), kHeaderLength);
  EXPECT_EQ(successor.next_header().length, kDataLength);
}

TEST_F(JournalRecovery, ReadsAHeaderAgainThatWasBeingOpened) {
  const std::uint64_t parsed = memory_[0];
  open_read(0, 1);
  memory_[0] = parsed;
  Journal successor(bytes_of(memory_), kFewSlots);
  const auto found = successor.recover();
  ASSERT_TRUE(found);
  EXPECT_THAT(found->open, IsEmpty());
  EXPECT_THAT(successor.permits(), IsEmpty());
  EXPECT_EQ(successor.ahead(), kHeaderLength);
}

/// What a successor relies on; nothing if the journal is refused.
void expect_sound(Memory memory, std::set<std::string>& refusals) {
  Journal journal(bytes_of(memory), kFewSlots);
  const auto found = journal.recover();
  if (!found) {
    EXPECT_EQ(found.error().code, EPROTO);
    refusals.insert(found.error().message);
    return;
  }
  EXPECT_LE(journal.ahead(), Journal::kWindow);
  for (const std::uint16_t slot : found->open) {
    ASSERT_LT(slot, kFewSlots.requests);
    EXPECT_TRUE(journal.is_open(slot));
    for (const JournalPiece& piece : journal.pieces(slot)) {
      EXPECT_LE(std::uint64_t{piece.offset} + piece.length, journal.header(slot).length);
    }
  }
  if (found->half_sent) {
    EXPECT_LT(found->half_sent->slot, kFewSlots.requests);
  }
  EXPECT_TRUE(journal.recover());
}

TEST_F(JournalRecovery, RefusesWhatMakesNoSenseWhateverWasDamaged) {
  leave_everything();
  std::set<std::string> refusals;
  constexpr std::array<std::uint32_t, 7> kNonsense = {0,          1,          5,         600,
                                                      0x7fffffff, 0x80000000, 0xffffffff};
  for (std::size_t at = 0; at < 2 * memory_.size(); ++at) {
    for (const std::uint32_t value : kNonsense) {
      SCOPED_TRACE(testing::Message() << "word " << at << " is " << value);
      Memory damaged = memory_;
      std::memcpy(bytes_of(damaged).data() + at * sizeof value, &value, sizeof value);
      expect_sound(std::move(damaged), refusals);
    }
  }
  const auto of = [](const std::string& what) { return "the journal makes no sense: " + what; };
  EXPECT_THAT(refusals,
              ElementsAre(of("a piece"), of("a piece of a request"), of("a reply"), of("a request"),
                          of("the replies"), of("the sent replies"), of("the window")));
}

}  // namespace
}  // namespace rnbd::client
