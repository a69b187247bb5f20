// SPDX-License-Identifier: Apache-2.0
// Between a request and a disk: what a request asks of a store, and how it hears of the end. Stores
// execute (uring_store.h) or stand in front of another store and spoil things (fault injection).
// Everything here happens on one worker's thread, and nothing allocates or locks per request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace rnbd::server {

/// In place of a slot: the thing is not registered with the kernel and is named as it is.
inline constexpr int kNoSlot = -1;

/// One operation. The caller has checked it against the disk's size, block size and access mode.
struct StoreOperation {
  enum class Kind : std::uint8_t { Read, Write, Flush, Discard, WriteZeroes };

  Kind kind = Kind::Read;
  bool fua = false;          ///< answered only when it is on stable storage
  std::uint64_t offset = 0;  ///< bytes
  std::uint32_t length = 0;  ///< bytes
  /// Read and Write: `length` bytes that stay where they are until the operation has ended.
  std::byte* data = nullptr;
  int buffer_slot = kNoSlot;  ///< of the registered buffer that `data` lies in
};

/// The disk an operation goes to. A small value: stores keep copies, never pointers.
struct StoreTarget {
  int fd = -1;
  int file_slot = kNoSlot;  ///< this worker's registration of `fd`
  bool is_block = false;
  /// Writes and zeroes reach the disk before they are answered, FUA or not (fileio).
  bool write_through = false;
};

/// Who waits for an operation; part of the request. One operation at a time.
class StoreClient {
 public:
  virtual ~StoreClient() = default;

  /// The operation has ended: `error` is 0 or a positive errno. Called once for each submit(),
  /// never from inside it; the next submit() is allowed in here.
  virtual void on_store_done(int error) = 0;

 private:
  friend class StoreQueue;
  StoreOperation operation_;
  StoreTarget target_;
  StoreClient* next_ = nullptr;
};

/// Operations waiting for a store's turn, first come first served, linked through their clients.
class StoreQueue {
 public:
  struct Entry {
    StoreOperation operation;
    StoreTarget target;
    StoreClient* client = nullptr;  ///< null: the queue was empty
  };

  void push(const StoreOperation& operation, const StoreTarget& target, StoreClient& client) {
    client.operation_ = operation;
    client.target_ = target;
    client.next_ = nullptr;
    *(last_ == nullptr ? &first_ : &last_->next_) = &client;
    last_ = &client;
    ++size_;
  }

  Entry pop() {
    if (first_ == nullptr) return {};
    StoreClient& client = *std::exchange(first_, first_->next_);
    if (first_ == nullptr) last_ = nullptr;
    --size_;
    return {client.operation_, client.target_, &client};
  }

  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  StoreClient* first_ = nullptr;
  StoreClient* last_ = nullptr;
  std::size_t size_ = 0;
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  /// Starts an operation, or lets it wait its turn. `client` lives until it has been called.
  /// Operations in flight together may be done in any order.
  virtual void submit(const StoreOperation& operation, const StoreTarget& target,
                      StoreClient& client) = 0;

  /// Makes a file or a piece of memory cheaper to use. Answers its slot, or kNoSlot where there is
  /// no such thing or no room: then it is used as it is. Unregister before closing or freeing, when
  /// no operation uses it; kNoSlot is allowed.
  virtual int register_file(int /*fd*/) { return kNoSlot; }
  virtual void unregister_file(int /*slot*/) {}
  virtual int register_buffer(std::span<std::byte> /*memory*/) { return kNoSlot; }
  virtual void unregister_buffer(int /*slot*/) {}
};

}  // namespace rnbd::server
