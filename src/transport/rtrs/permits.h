// SPDX-License-Identifier: Apache-2.0
// The permits of one session: a bitmap without locks that all its queues take from. Each share (a
// queue) has a range of its own and may borrow from the others' while nobody starves; so a share
// that waits gets at least its range in the end, whatever the others do. What belongs to share 0,
// the service messages', is never lent: they must pass while all I/O waits for them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/cache_line.h"
#include "transport/rtrs/request_channel.h"

namespace rnbd::rtrs {

class PermitPool {
 public:
  /// Of the bitmap: 64 permits, in a cache line of their own, for most shares take from different
  /// ones.
  struct alignas(kCacheLine) Word {
    std::uint64_t used = 0;
  };
  static constexpr std::size_t words(std::uint32_t depth) { return (depth + 63) / 64; }

  /// `depth` permits, 2 or more, for `shares` shares. Share 0 gets few. `bitmap`: words(depth) of
  /// them, which outlive the pool and whose ones are in use already; none: memory of its own.
  PermitPool(std::uint32_t depth, std::uint32_t shares, std::span<Word> bitmap = {});

  /// Fills `permits` or takes none and marks the share as starving. Any thread, one per share.
  bool acquire(std::uint32_t share, std::span<PermitId> permits);

  /// Takes one, unless it is in use already. Before any other call.
  void claim(PermitId permit);

  /// Gives back. Any thread.
  void release(std::span<const PermitId> permits);

  /// A starving share that is worth waking, taken off the list; -1: none. Call after release().
  int next_to_wake();

  /// The share stops waiting without having got anything.
  void stop_starving(std::uint32_t share);

  /// The most that one acquire() of this share is sure to get in the end.
  [[nodiscard]] std::uint32_t guaranteed(std::uint32_t share) const;

  [[nodiscard]] std::uint32_t depth() const { return depth_; }
  [[nodiscard]] std::uint32_t in_use() const;            ///< a snapshot
  [[nodiscard]] std::vector<PermitId> all_used() const;  ///< the same

 private:
  struct Range {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  /// Of its own cache line: its worker reads it for each request, and others write it.
  struct alignas(kCacheLine) Share {
    Range home;
    std::atomic<bool> starving = false;  ///< others must not borrow
    std::atomic<bool> wake = false;      ///< next_to_wake() has yet to name it
  };

  bool try_acquire(std::uint32_t share, std::span<PermitId> permits);
  std::size_t take(Range range, std::span<PermitId> permits);
  void set_starving(Share& share, bool starving);

  std::uint32_t depth_;
  std::vector<Word> own_;
  std::span<Word> used_;
  std::vector<Share> shares_;
  std::atomic<std::uint32_t> starving_ = 0;
};

}  // namespace rnbd::rtrs
