// SPDX-License-Identifier: Apache-2.0
#include "common/io_ring.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "common/assert.h"

namespace rnbd {
namespace {

/// Of a call that submits: what it has not taken stays in the queue, for the next one.
bool may_go_on(int result) {
  return result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY;
}

}  // namespace

Result<std::unique_ptr<IoRing>> IoRing::create(unsigned entries, unsigned completions) {
  std::unique_ptr<IoRing> ring(new IoRing);
  // Newest first; each step drops what an older kernel does not know.
  constexpr std::array kModes = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
          IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, 0U};
  int error = 0;
  for (const unsigned mode : kModes) {
    io_uring_params params{};
    params.flags = mode | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = 2 * completions;
    error = -io_uring_queue_init_params(entries, &ring->ring_, &params);
    if (error == 0) {
      ring->live_ = true;
      return ring;
    }
    if (error != EINVAL) break;
  }
  return fail(error, "cannot set up an io_uring");
}

IoRing::~IoRing() {
  if (live_) io_uring_queue_exit(&ring_);
}

io_uring_sqe& IoRing::prepare(Tag tag) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    submit();
    sqe = io_uring_get_sqe(&ring_);
    RNBD_ASSERT(sqe != nullptr);
  }
  io_uring_prep_nop(sqe);
  sqe->user_data = tag.pack();
  return *sqe;
}

void IoRing::submit() {
  for (;;) {
    const int result = io_uring_submit(&ring_);
    if (result >= 0) return;
    // EBUSY: completions must be flushed out first; the kernel does so on the next entry.
    RNBD_ASSERT(may_go_on(result));
  }
}

// With DEFER_TASKRUN what has happened becomes completions only when its issuer enters the kernel.
bool IoRing::kernel_has_work() const {
  constexpr unsigned kAny = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
  return (std::atomic_ref(*ring_.sq.kflags).load(std::memory_order_relaxed) & kAny) != 0;
}

std::size_t IoRing::reap(std::span<RingCompletion> out) {
  // Together: what a disk does at once is a completion when the call that submits it returns.
  if (kernel_has_work() || io_uring_sq_ready(&ring_) > 0) {
    const int result = io_uring_submit_and_get_events(&ring_);
    RNBD_ASSERT(may_go_on(result));
  }
  std::size_t count = 0;
  unsigned head = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    if (count == out.size()) break;
    out[count++] = {Tag::unpack(cqe->user_data), cqe->res, cqe->flags};
  }
  io_uring_cq_advance(&ring_, static_cast<unsigned>(count));
  return count;
}

void IoRing::sleep(TimePoint deadline, TimePoint now) {
  io_uring_cqe* cqe = nullptr;
  if (deadline == kNever) {
    RNBD_ASSERT(may_go_on(io_uring_submit_and_wait(&ring_, 1)));
    return;
  }
  const auto left = std::max(deadline - now, Duration::zero());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  __kernel_timespec timeout{
      .tv_sec = seconds.count(),
      .tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds).count()};
  const int result = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
  RNBD_ASSERT(may_go_on(result) || result == -ETIME);
}

Status IoRing::reserve_files(unsigned slots) {
  const int result = io_uring_register_files_sparse(&ring_, slots);
  if (result < 0) return fail(-result, "cannot reserve a table of registered files");
  return {};
}

Status IoRing::reserve_buffers(unsigned slots) {
  const int result = io_uring_register_buffers_sparse(&ring_, slots);
  if (result < 0) return fail(-result, "cannot reserve a table of registered buffers");
  return {};
}

Status IoRing::set_file(unsigned slot, int fd) {
  const int result = io_uring_register_files_update(&ring_, slot, &fd, 1);
  if (result < 0) return fail(-result, "cannot register a file with io_uring");
  return {};
}

Status IoRing::set_buffer(unsigned slot, std::span<std::byte> memory) {
  const iovec vector{memory.data(), memory.size()};
  const __u64 tag = 0;
  const int result = io_uring_register_buffers_update_tag(&ring_, slot, &vector, &tag, 1);
  if (result < 0) return fail(-result, "cannot register a buffer with io_uring");
  return {};
}

}  // namespace rnbd
