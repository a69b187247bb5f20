// SPDX-License-Identifier: Apache-2.0
// A value in memory that outlives the process. What a thread that is killed has stored is a prefix
// of its program: a processor finishes the instructions before the kill, and none behind it. So all
// that a journal needs is that the compiler keeps the order; a Cell costs one plain store.
#pragma once

#include <atomic>
#include <type_traits>

namespace rnbd::client {

/// One writer. Everything stored before set() in the program is in memory when its value is, and
/// nothing that is stored behind it.
template <typename T>
  requires(std::is_trivially_copyable_v<T> && sizeof(T) <= 8)
class Cell {
 public:
  [[nodiscard]] T get() const { return value_.load(std::memory_order_relaxed); }

  void set(T value) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    value_.store(value, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

 private:
  std::atomic<T> value_;
  static_assert(std::atomic<T>::is_always_lock_free);
};

}  // namespace rnbd::client
