// SPDX-License-Identifier: Apache-2.0
// The chunks of one server session: their memory, and the request each one carries. Shared by all
// connections of all paths; a chunk belongs to the connection that claimed it until it answers.
//
// A request that a client sends again on another path, while its first copy is still being
// executed, waits for the chunk: one connection at most does, and gets it from the first.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory_block.h"
#include "common/result.h"
#include "transport/rtrs/handshake.h"
#include "transport/rtrs/server_request.h"

namespace rnbd::rtrs {

class ChunkTable {
 public:
  /// `memory`: what take_memory() of an earlier one gave, or nothing. Errors: ENOMEM.
  static Result<std::unique_ptr<ChunkTable>> create(const ServerParameters& parameters,
                                                    MemoryBlock memory) {
    const std::size_t bytes = std::size_t{parameters.queue_depth} * parameters.chunk_size();
    if (memory.bytes().size() != bytes) {
      auto fresh = MemoryBlock::map(bytes);
      if (!fresh) return fail(fresh.error());
      memory = std::move(*fresh);
    }
    return std::unique_ptr<ChunkTable>(new ChunkTable(parameters, std::move(memory)));
  }

  /// For another one; this one is of no use any more.
  [[nodiscard]] MemoryBlock take_memory() { return std::move(memory_); }

  [[nodiscard]] std::span<std::byte> memory() const { return memory_.bytes(); }
  [[nodiscard]] std::span<std::byte> chunk(std::uint32_t index) const {
    return memory_.bytes().subspan(std::size_t{index} * chunk_size_, chunk_size_);
  }

  enum class Claim : std::uint8_t {
    Taken,    ///< it is the caller's
    Waiting,  ///< another has it; release() will name the caller
    Refused,  ///< another has it, and one waits already
  };

  /// Any thread; `caller` lives until it has got the chunk, or stop_waiting() has said true.
  Claim claim(std::uint32_t index, ServerConnection& caller) {
    std::atomic<std::uintptr_t>& state = requests_[index].state_;
    const auto waiting = reinterpret_cast<std::uintptr_t>(&caller);
    std::uintptr_t seen = ServerRequest::kFree;
    for (;;) {
      if (seen == ServerRequest::kFree) {
        if (state.compare_exchange_weak(seen, ServerRequest::kClaimed)) return Claim::Taken;
      } else if (seen == ServerRequest::kClaimed) {
        if (state.compare_exchange_weak(seen, waiting)) return Claim::Waiting;
      } else {
        return Claim::Refused;
      }
    }
  }

  /// Gives a chunk back; any thread. Not null: that connection has it now, and has to be told.
  [[nodiscard]] static ServerConnection* release(ServerRequest& request) {
    std::uintptr_t seen = ServerRequest::kClaimed;
    while (!request.state_.compare_exchange_weak(
        seen, seen == ServerRequest::kClaimed ? ServerRequest::kFree : ServerRequest::kClaimed)) {
    }
    if (seen == ServerRequest::kClaimed) return nullptr;
    return reinterpret_cast<ServerConnection*>(seen);  // NOLINT(performance-no-int-to-ptr)
  }

  /// False: `caller` waits no longer, since it has been given the chunk and is being told.
  bool stop_waiting(std::uint32_t index, ServerConnection& caller) {
    auto waiting = reinterpret_cast<std::uintptr_t>(&caller);
    return requests_[index].state_.compare_exchange_strong(waiting, ServerRequest::kClaimed);
  }

  ServerRequest& request(std::uint32_t index) { return requests_[index]; }

  [[nodiscard]] std::uint32_t busy() const {
    std::uint32_t count = 0;
    for (const ServerRequest& request : requests_)
      count += request.state_ != ServerRequest::kFree ? 1U : 0U;
    return count;
  }

 private:
  ChunkTable(const ServerParameters& parameters, MemoryBlock memory)
      : chunk_size_(parameters.chunk_size()),
        memory_(std::move(memory)),
        requests_(parameters.queue_depth) {
    for (std::uint32_t i = 0; i < parameters.queue_depth; ++i) requests_[i].chunk_ = i;
  }

  std::uint32_t chunk_size_;
  MemoryBlock memory_;
  std::vector<ServerRequest> requests_;
};

}  // namespace rnbd::rtrs
