// SPDX-License-Identifier: Apache-2.0
#include "server/uring_store.h"

#include <cerrno>
#include <fcntl.h>
#include <numeric>

#include <linux/falloc.h>
#include <linux/fs.h>

#include "common/assert.h"
#include "common/log.h"

namespace rnbd::server {
namespace {

constexpr unsigned kFileSlots = 1024;
constexpr unsigned kBufferSlots = 1024;

constexpr int kPunchHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZeroRange = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

// A tag's index is a slot and its generation; this one stands for the discard thread's event.
constexpr std::uint32_t kDiscardEvent = UringStore::kMaxInFlight;

// How often one operation may be told EAGAIN or EINTR before that counts as its outcome.
constexpr std::uint8_t kMaxRepeats = 16;

constexpr std::uint32_t ring_index(std::uint16_t slot, std::uint16_t generation) {
  return std::uint32_t{generation} << 16 | slot;
}

bool must_sync(const StoreOperation& operation, const StoreTarget& target) {
  const bool zeroes = operation.kind == StoreOperation::Kind::WriteZeroes;
  return operation.fua || (zeroes && target.write_through);
}

}  // namespace

void UringStore::SlotTable::fill(unsigned count) {
  free_.resize(count);
  std::iota(free_.rbegin(), free_.rend(), 0);
}

int UringStore::SlotTable::take() {
  if (free_.empty()) return kNoSlot;
  const int slot = free_.back();
  free_.pop_back();
  return slot;
}

Result<std::unique_ptr<UringStore>> UringStore::create(Worker& worker) {
  auto discards = DiscardThread::start();
  if (!discards) return fail(discards.error());
  return std::unique_ptr<UringStore>(new UringStore(worker, std::move(*discards)));
}

UringStore::UringStore(Worker& worker, std::unique_ptr<DiscardThread> discards)
    : worker_(worker),
      ring_kind_(worker.add_ring_sink(*this)),
      free_count_(kMaxInFlight),
      discards_(std::move(discards)) {
  std::iota(free_.rbegin(), free_.rend(), std::uint16_t{0});
  if (const Status status = worker_.ring().reserve_files(kFileSlots); status) {
    file_slots_.fill(kFileSlots);
  } else {
    log::debug("disks are used as plain descriptors: {}", describe(status.error()));
  }
  if (const Status status = worker_.ring().reserve_buffers(kBufferSlots); status) {
    buffer_slots_.fill(kBufferSlots);
  } else {
    log::debug("buffers are used unregistered: {}", describe(status.error()));
  }
}

UringStore::~UringStore() {
  RNBD_ASSERT(in_flight() == 0 && waiting() == 0);
  worker_.remove_ring_sink(ring_kind_);
}

void UringStore::submit(const StoreOperation& operation, const StoreTarget& target,
                        StoreClient& client) {
  if (free_count_ == 0) {
    waiting_.push(operation, target, client);
    return;
  }
  start({operation, target, &client});
}

void UringStore::start(const StoreQueue::Entry& entry) {
  const std::uint16_t slot = free_[--free_count_];
  InFlight& flight = in_flight_[slot];
  flight.operation = entry.operation;
  flight.target = entry.target;
  flight.client = entry.client;
  flight.transferred = 0;
  flight.repeats = 0;
  flight.error = 0;
  switch (entry.operation.kind) {
    case StoreOperation::Kind::Read:
    case StoreOperation::Kind::Write:
      flight.step = Step::Transfer;
      break;
    case StoreOperation::Kind::Flush:
      flight.step = Step::Sync;
      break;
    case StoreOperation::Kind::Discard:
      flight.step = entry.target.is_block ? Step::DiscardBlock : Step::PunchHole;
      break;
    case StoreOperation::Kind::WriteZeroes:
      flight.step = Step::ZeroRange;
      break;
  }
  issue(slot);
}

void UringStore::issue(std::uint16_t slot) {
  switch (in_flight_[slot].step) {
    case Step::Transfer:
    case Step::PunchHole:
    case Step::ZeroRange:
    case Step::Sync:
      return prepare_ring(slot);
    case Step::DiscardBlock:
      return hand_to_discard_thread(slot);
    case Step::Done:
      return end(slot);
  }
}

/// The one place where an operation moves on. `result` is what its step answered: a negative errno,
/// or how many bytes were moved.
void UringStore::advance(std::uint16_t slot, std::int32_t result) {
  InFlight& flight = in_flight_[slot];
  if ((result == -EAGAIN || result == -EINTR) && flight.repeats++ < kMaxRepeats) {
    return issue(slot);
  }
  const Step after_change = must_sync(flight.operation, flight.target) ? Step::Sync : Step::Done;
  switch (flight.step) {
    case Step::Transfer: {
      const std::uint32_t left = flight.operation.length - flight.transferred;
      if (result == 0 && left > 0) result = -EIO;  // the disk ends here, and it should not
      if (result > 0) flight.transferred += static_cast<std::uint32_t>(result);
      if (flight.transferred == flight.operation.length) flight.step = Step::Done;
      break;
    }
    case Step::ZeroRange:
      flight.step = after_change;
      if (result == -EOPNOTSUPP && !flight.target.is_block) {
        result = 0;
        flight.step = Step::PunchHole;  // a hole reads as zeroes, too
      }
      break;
    case Step::PunchHole:
    case Step::DiscardBlock:
      flight.step = after_change;
      break;
    case Step::Sync:
    case Step::Done:
      flight.step = Step::Done;
      break;
  }
  if (result < 0) {
    flight.error = -result;
    flight.step = Step::Done;
  }
  issue(slot);
}

/// The slot is free before anybody hears of it: whoever waits longest gets it, not the client that
/// is called now.
void UringStore::end(std::uint16_t slot) {
  InFlight& flight = in_flight_[slot];
  StoreClient& client = *flight.client;
  const int error = flight.error;
  ++flight.generation;
  free_[free_count_++] = slot;
  if (const StoreQueue::Entry next = waiting_.pop(); next.client != nullptr) start(next);
  client.on_store_done(error);
}

void UringStore::prepare_ring(std::uint16_t slot) {
  InFlight& flight = in_flight_[slot];
  const StoreOperation& operation = flight.operation;
  const StoreTarget& target = flight.target;
  const int file = target.file_slot == kNoSlot ? target.fd : target.file_slot;
  io_uring_sqe& sqe = worker_.ring().prepare({ring_kind_, 0, ring_index(slot, flight.generation)});

  if (flight.step == Step::Sync) {
    io_uring_prep_fsync(&sqe, file, IORING_FSYNC_DATASYNC);
  } else if (flight.step == Step::PunchHole || flight.step == Step::ZeroRange) {
    const int mode = flight.step == Step::ZeroRange ? kZeroRange : kPunchHole;
    io_uring_prep_fallocate(&sqe, file, mode, static_cast<off_t>(operation.offset),
                            static_cast<off_t>(operation.length));
  } else {
    const bool writes = operation.kind == StoreOperation::Kind::Write;
    const bool fixed = operation.buffer_slot != kNoSlot;
    const int opcode = writes ? (fixed ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE)
                              : (fixed ? IORING_OP_READ_FIXED : IORING_OP_READ);
    io_uring_prep_rw(opcode, &sqe, file, operation.data + flight.transferred,
                     operation.length - flight.transferred, operation.offset + flight.transferred);
    if (fixed) sqe.buf_index = static_cast<std::uint16_t>(operation.buffer_slot);
    if (writes && (operation.fua || target.write_through)) sqe.rw_flags = RWF_DSYNC;
  }
  if (target.file_slot != kNoSlot) sqe.flags |= IOSQE_FIXED_FILE;
}

void UringStore::hand_to_discard_thread(std::uint16_t slot) {
  InFlight& flight = in_flight_[slot];
  flight.discard = {.fd = flight.target.fd,
                    .offset = flight.operation.offset,
                    .length = flight.operation.length,
                    .owner = slot,
                    .error = 0,
                    .next = nullptr};
  ++discards_out_;
  discards_->submit(flight.discard);
  if (!discards_watched_) watch_discards();
}

void UringStore::watch_discards() {
  discards_watched_ = true;
  io_uring_sqe& sqe = worker_.ring().prepare({ring_kind_, 0, kDiscardEvent});
  io_uring_prep_read(&sqe, discards_->wait_fd(), &discard_events_, sizeof discard_events_, 0);
}

void UringStore::on_discards_done() {
  discards_watched_ = false;
  for (DiscardJob* job = discards_->take_done(); job != nullptr;) {
    // The job's place is used again as soon as its operation has moved on.
    const DiscardJob done = *job;
    job = done.next;
    --discards_out_;
    advance(static_cast<std::uint16_t>(done.owner), -done.error);
  }
  if (discards_out_ > 0 && !discards_watched_) watch_discards();
}

void UringStore::on_ring_completion(std::uint32_t index, std::int32_t result,
                                    std::uint32_t /*flags*/) {
  if (index == kDiscardEvent) return on_discards_done();
  const auto slot = static_cast<std::uint16_t>(index & 0xffff);
  if (slot >= kMaxInFlight || ring_index(slot, in_flight_[slot].generation) != index) {
    ++stale_completions_;
    return;
  }
  advance(slot, result);
}

int UringStore::register_file(int fd) {
  const int slot = file_slots_.take();
  if (slot == kNoSlot) return kNoSlot;
  if (const Status status = worker_.ring().set_file(static_cast<unsigned>(slot), fd); !status) {
    log::debug("a disk is used as a plain descriptor: {}", describe(status.error()));
    file_slots_.give_back(slot);
    return kNoSlot;
  }
  return slot;
}

void UringStore::unregister_file(int slot) {
  if (slot == kNoSlot) return;
  if (const Status status = worker_.ring().set_file(static_cast<unsigned>(slot), -1); !status) {
    log::warn("a disk stays registered: {}", describe(status.error()));
    return;  // the slot is not used again
  }
  file_slots_.give_back(slot);
}

int UringStore::register_buffer(std::span<std::byte> memory) {
  const int slot = buffer_slots_.take();
  if (slot == kNoSlot) return kNoSlot;
  if (const Status status = worker_.ring().set_buffer(static_cast<unsigned>(slot), memory);
      !status) {
    log::debug("a buffer is used unregistered: {}", describe(status.error()));
    buffer_slots_.give_back(slot);
    return kNoSlot;
  }
  return slot;
}

void UringStore::unregister_buffer(int slot) {
  if (slot == kNoSlot) return;
  if (const Status status = worker_.ring().set_buffer(static_cast<unsigned>(slot), {}); !status) {
    log::warn("a buffer stays registered: {}", describe(status.error()));
    return;
  }
  buffer_slots_.give_back(slot);
}

}  // namespace rnbd::server
