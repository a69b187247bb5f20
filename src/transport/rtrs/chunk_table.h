// SPDX-License-Identifier: Apache-2.0
// The chunks of one server session: their memory, and the request each one carries. Shared by all
// connections of the session; a chunk belongs to the connection that claimed it until it answers.
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
  /// Errors: ENOMEM.
  static Result<std::unique_ptr<ChunkTable>> create(const ServerParameters& parameters) {
    auto memory = MemoryBlock::map(std::size_t{parameters.queue_depth} * parameters.chunk_size());
    if (!memory) return fail(memory.error());
    return std::unique_ptr<ChunkTable>(new ChunkTable(parameters, std::move(*memory)));
  }

  [[nodiscard]] std::span<std::byte> memory() const { return memory_.bytes(); }
  [[nodiscard]] std::span<std::byte> chunk(std::uint32_t index) const {
    return memory_.bytes().subspan(std::size_t{index} * chunk_size_, chunk_size_);
  }

  /// The request of a chunk, now the caller's; null if another has it. Any thread.
  ServerRequest* claim(std::uint32_t index) {
    ServerRequest& request = requests_[index];
    return request.claimed_.exchange(true, std::memory_order_acquire) ? nullptr : &request;
  }
  static void release(ServerRequest& request) {
    request.claimed_.store(false, std::memory_order_release);
  }
  ServerRequest& request(std::uint32_t index) { return requests_[index]; }

  [[nodiscard]] std::uint32_t busy() const {
    std::uint32_t count = 0;
    for (const ServerRequest& request : requests_) count += request.claimed_ ? 1U : 0U;
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
