// SPDX-License-Identifier: Apache-2.0
// How long things have taken: counts in powers of two of a microsecond, which add up over queues
// and time. Not shared between threads.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "common/clock.h"

namespace rnbd {

struct LatencyHistogram {
  static constexpr std::size_t kBuckets = 24;

  /// [i]: so many took less than 2^i microseconds, and not less than the one before; the last has
  /// all that took longer (4 s and more).
  std::array<std::uint64_t, kBuckets> buckets{};
  std::uint64_t sum_ns = 0;

  void add(Duration taken) {
    const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count(), 0));
    sum_ns += ns;
    // Where nothing was waited for: the same round of a worker.
    if (ns < 1000) {
      ++buckets[0];
      return;
    }
    const auto bucket = static_cast<std::size_t>(std::bit_width(ns / 1000));
    ++buckets[std::min(bucket, kBuckets - 1)];
  }

  LatencyHistogram& operator+=(const LatencyHistogram& other) {
    for (std::size_t i = 0; i < kBuckets; ++i) buckets[i] += other.buckets[i];
    sum_ns += other.sum_ns;
    return *this;
  }

  /// `then`: what it was before.
  LatencyHistogram& operator-=(const LatencyHistogram& then) {
    for (std::size_t i = 0; i < kBuckets; ++i) buckets[i] -= then.buckets[i];
    sum_ns -= then.sum_ns;
    return *this;
  }

  [[nodiscard]] std::uint64_t count() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t one : buckets) sum += one;
    return sum;
  }
};

/// Of a device: flushes, discards and zeroes together are the others.
struct IoLatencies {
  LatencyHistogram read;
  LatencyHistogram write;
  LatencyHistogram other;

  /// Of all kinds together.
  [[nodiscard]] LatencyHistogram all() const {
    LatencyHistogram sum = read;
    sum += write;
    sum += other;
    return sum;
  }

  IoLatencies& operator+=(const IoLatencies& more) {
    read += more.read;
    write += more.write;
    other += more.other;
    return *this;
  }
  IoLatencies& operator-=(const IoLatencies& then) {
    read -= then.read;
    write -= then.write;
    other -= then.other;
    return *this;
  }
};

}  // namespace rnbd
