// SPDX-License-Identifier: Apache-2.0
// What all queues of a client's session share once its sizes are known: permits, the buffer behind
// each permit, and the request that uses it. A request is touched by the thread of the queue that
// holds its permit, and by nobody else.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "common/cache_line.h"
#include "common/memory_block.h"
#include "common/result.h"
#include "transport/rtrs/handshake.h"
#include "transport/rtrs/path_policy.h"
#include "transport/rtrs/permits.h"
#include "transport/rtrs/request_channel.h"

namespace rnbd::rtrs {

/// A request from submit() to its answer.
struct alignas(kCacheLine) ClientRequest {
  RequestOwner* owner = nullptr;  ///< null: abandoned, or no request
  std::uint32_t life = 0;         ///< of the session, when it was last sent or submitted
  bool sent = false;              ///< and not answered: a server may be executing it
  RequestTrip trip;               ///< if `sent`, or answered just now
  std::uint32_t data_length = 0;
  std::uint16_t user_length = 0;
  Direction direction = Direction::Read;
  std::array<std::byte, kMaxUserMessage> user_message{};
};

/// What workers measure of one path over all its lives; read by anybody.
struct PathStats {
  std::atomic<std::uint64_t> latency_ns = 0;  ///< a heartbeat's last round trip; 0: never measured
  std::atomic<std::uint64_t> failovers = 0;   ///< requests that had to be sent again elsewhere
};

/// A queue that can be told, by any thread, that permits have come back.
class PermitSleeper {
 public:
  virtual ~PermitSleeper() = default;
  virtual void wake_for_permits() = 0;
};

class SessionCore {
 public:
  using MakeMemory = std::function<Result<MemoryBlock>(std::size_t bytes)>;

  /// Queue 0 carries service messages; `queues` more carry I/O. Errors: those of `make_memory`.
  static Result<std::unique_ptr<SessionCore>> create(const ServerParameters& parameters,
                                                     std::uint32_t queues,
                                                     const MakeMemory& make_memory) {
    const std::size_t stride = parameters.max_io_size + limits::kHeaderArea;
    auto memory = make_memory(pages(parameters.queue_depth * stride) + permit_bytes(parameters));
    if (!memory) return fail(memory.error());
    return std::unique_ptr<SessionCore>(
        new SessionCore(parameters, queues, stride, std::move(*memory)));
  }

  [[nodiscard]] std::uint32_t depth() const { return permits.depth(); }
  [[nodiscard]] std::uint32_t max_io_size() const { return max_io_size_; }
  /// All buffers, which the server may write into.
  [[nodiscard]] std::span<std::byte> memory() const {
    return memory_.bytes().first(permits.depth() * stride_);
  }

  /// The buffer behind a permit: max_io_size bytes for data, and room for the messages behind it.
  [[nodiscard]] std::span<std::byte> buffer(PermitId permit) const {
    return memory_.bytes().subspan(permit * stride_, stride_);
  }
  ClientRequest& request(PermitId permit) { return requests_[permit]; }

  void release(std::span<const PermitId> returned) {
    permits.release(returned);
    for (int share = permits.next_to_wake(); share >= 0; share = permits.next_to_wake()) {
      sleepers[static_cast<std::size_t>(share)]->wake_for_permits();
    }
  }

  std::atomic<PathPolicy> policy = PathPolicy::MinInflight;  ///< may change at any time
  PermitPool permits;
  std::vector<PermitSleeper*> sleepers;  ///< by queue; set once, before the first permit is taken

 private:
  SessionCore(const ServerParameters& parameters, std::uint32_t queues, std::size_t stride,
              MemoryBlock memory)
      : permits(parameters.queue_depth, queues + 1, bitmap_in(memory, parameters)),
        max_io_size_(parameters.max_io_size),
        stride_(stride),
        memory_(std::move(memory)),
        requests_(parameters.queue_depth) {}

  /// Which permits are in use is known to whoever inherits the memory: behind the buffers.
  static std::size_t permit_bytes(const ServerParameters& parameters) {
    return pages(PermitPool::words(parameters.queue_depth) * sizeof(PermitPool::Word));
  }
  static std::size_t pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
  static std::span<PermitPool::Word> bitmap_in(const MemoryBlock& memory,
                                               const ServerParameters& parameters) {
    std::byte* const place = memory.bytes().last(permit_bytes(parameters)).data();
    return {reinterpret_cast<PermitPool::Word*>(place), PermitPool::words(parameters.queue_depth)};
  }

  static constexpr std::size_t kPage = 4096;

  std::uint32_t max_io_size_;
  std::size_t stride_;
  MemoryBlock memory_;
  std::vector<ClientRequest> requests_;
};

// Messages are written behind a request's data, inside the permit's buffer.
static_assert(limits::kHeaderArea >= kMaxUserMessage + sizeof(ReadMessage) + sizeof(Descriptor));

}  // namespace rnbd::rtrs
