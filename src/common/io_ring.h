// SPDX-License-Identifier: Apache-2.0
// One io_uring of one worker. Everything here is called by the thread that created it: the ring is
// set up for a single issuer, so that the kernel defers its work to our own system calls.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <liburing.h>
#include <sys/uio.h>

#include "common/clock.h"
#include "common/result.h"
#include "common/tag.h"

namespace rnbd {

struct RingCompletion {
  Tag tag;
  std::int32_t result = 0;  ///< a negative errno, or what the operation answers
  std::uint32_t flags = 0;  ///< IORING_CQE_F_*
};

class IoRing {
 public:
  /// `entries` submission slots, and twice `completions` room for answers. Uses SINGLE_ISSUER and
  /// DEFER_TASKRUN where the kernel has them. Errors: those of io_uring_setup(2).
  static Result<std::unique_ptr<IoRing>> create(unsigned entries, unsigned completions);

  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;
  ~IoRing();

  /// A cleared slot to prepare an operation in, tagged. Submits what is queued if no slot is free.
  io_uring_sqe& prepare(Tag tag);

  /// Submits what is queued, lets deferred completions happen, and copies finished operations out.
  /// Enters the kernel only if there is something to do.
  std::size_t reap(std::span<RingCompletion> out);

  /// Submits and sleeps until an operation finishes or `deadline` passes.
  void sleep(TimePoint deadline, TimePoint now);

  /// Registered files and buffers: sparse tables made on first use. An empty table is refused by
  /// old kernels: then the errors say so and callers use plain descriptors and addresses.
  Status reserve_files(unsigned slots);
  Status reserve_buffers(unsigned slots);
  Status set_file(unsigned slot, int fd);                         ///< fd -1 clears the slot
  Status set_buffer(unsigned slot, std::span<std::byte> memory);  ///< an empty span clears it

 private:
  IoRing() = default;
  void submit();
  [[nodiscard]] bool kernel_has_work() const;

  io_uring ring_{};
  bool live_ = false;
};

}  // namespace rnbd
