// SPDX-License-Identifier: Apache-2.0
// The store that executes operations on files and block devices, with one worker's io_uring. Lives
// on that worker: created, used and destroyed on its thread. At most kMaxInFlight operations are
// with the kernel at a time; others wait in line.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "server/block_store.h"
#include "server/discard_thread.h"
#include "transport/worker.h"

namespace rnbd::server {

class UringStore final : public BlockStore, private RingSink {
 public:
  static constexpr std::uint16_t kMaxInFlight = 1024;

  /// Errors: those of DiscardThread::start. A kernel without tables of registered files or buffers
  /// is no error.
  static Result<std::unique_ptr<UringStore>> create(Worker& worker);

  /// Nothing may be in flight or waiting: the kernel would write into memory nobody guards.
  ~UringStore() override;
  UringStore(const UringStore&) = delete;
  UringStore& operator=(const UringStore&) = delete;

  void submit(const StoreOperation& operation, const StoreTarget& target,
              StoreClient& client) override;
  int register_file(int fd) override;
  void unregister_file(int slot) override;
  int register_buffer(std::span<std::byte> memory) override;
  void unregister_buffer(int slot) override;

  [[nodiscard]] std::size_t in_flight() const { return kMaxInFlight - free_count_; }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  /// Completions of an operation that had already ended. Always 0, unless the kernel or we err.
  [[nodiscard]] std::uint64_t stale_completions() const { return stale_completions_; }

 private:
  /// What an operation waits for, in the order of its life; advance() says who follows whom.
  enum class Step : std::uint8_t {
    Transfer,      ///< the ring, moving data; again for the rest of a short transfer
    PunchHole,     ///< the ring
    ZeroRange,     ///< the ring; PunchHole follows where a file system cannot
    DiscardBlock,  ///< the discard thread
    Sync,          ///< the ring, bringing what was done to stable storage
    Done,
  };

  struct InFlight {
    StoreOperation operation;
    StoreTarget target;
    StoreClient* client = nullptr;
    std::uint32_t transferred = 0;  ///< bytes
    std::uint16_t generation = 0;   ///< of this slot; in the tags
    std::uint8_t repeats = 0;       ///< how often the kernel asked for another try
    Step step = Step::Done;
    int error = 0;
    DiscardJob discard;
  };

  /// Slots handed out for registrations; all taken when the kernel has no such table.
  class SlotTable {
   public:
    void fill(unsigned count);
    int take();
    void give_back(int slot) { free_.push_back(slot); }

   private:
    std::vector<int> free_;
  };

  UringStore(Worker& worker, std::unique_ptr<DiscardThread> discards);

  void start(const StoreQueue::Entry& entry);
  void issue(std::uint16_t slot);
  void advance(std::uint16_t slot, std::int32_t result);
  void end(std::uint16_t slot);

  void prepare_ring(std::uint16_t slot);
  void hand_to_discard_thread(std::uint16_t slot);
  void watch_discards();
  void on_discards_done();

  void on_ring_completion(std::uint32_t index, std::int32_t result, std::uint32_t flags) override;

  Worker& worker_;
  std::uint16_t ring_kind_ = 0;
  std::array<InFlight, kMaxInFlight> in_flight_;
  std::array<std::uint16_t, kMaxInFlight> free_{};  ///< a stack of slots, free_count_ high
  std::size_t free_count_ = 0;
  StoreQueue waiting_;
  std::uint64_t stale_completions_ = 0;
  SlotTable file_slots_;
  SlotTable buffer_slots_;

  std::unique_ptr<DiscardThread> discards_;
  std::size_t discards_out_ = 0;  ///< jobs with the discard thread
  bool discards_watched_ = false;
  std::uint64_t discard_events_ = 0;  ///< where the ring reads the eventfd to
};

}  // namespace rnbd::server
