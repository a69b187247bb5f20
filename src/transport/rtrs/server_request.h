// SPDX-License-Identifier: Apache-2.0
// A request as a server sees it, from claim to answer: one object a chunk, made with the session.
// Handed up by the worker of the connection it came on; answered, once, on that same worker.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "common/cache_line.h"
#include "transport/fabric.h"
#include "transport/rtrs/request_channel.h"

namespace rnbd::rtrs {

class ServerConnection;

class alignas(kCacheLine) ServerRequest {
 public:
  [[nodiscard]] std::uint32_t chunk() const { return chunk_; }
  [[nodiscard]] Direction direction() const { return direction_; }

  /// Which of the server's workers this runs on.
  [[nodiscard]] std::size_t worker() const;

  /// The chunk's data: what a write brought; what a read's answer is put into. The peer can write
  /// here at any time: look at it once.
  [[nodiscard]] std::span<std::byte> data() const { return data_; }

  /// A copy, out of the peer's reach.
  [[nodiscard]] std::span<const std::byte> user_message() const {
    return std::span(user_message_).first(user_length_);
  }

  /// When its worker found it in a chunk that nobody else used any more.
  [[nodiscard]] TimePoint arrived() const { return arrived_; }

  /// Answers: 0 or a positive errno. The object may be used for the next request at once.
  void respond(int error);

 private:
  friend class ServerConnection;
  friend class ChunkTable;

  /// kFree, kClaimed, or the connection that waits for it while another has it.
  static constexpr std::uintptr_t kFree = 0;
  static constexpr std::uintptr_t kClaimed = 1;
  std::atomic<std::uintptr_t> state_ = kFree;
  std::uint32_t chunk_ = 0;
  Direction direction_ = Direction::Read;
  bool need_invalidate_ = false;
  int error_ = 0;  ///< once answered
  TimePoint arrived_;
  std::uint32_t message_offset_ = 0;  ///< of the RTRS message, until it is parsed
  std::uint32_t answer_length_ = 0;   ///< of a read's answer; 0: none is wanted
  std::uint16_t user_length_ = 0;
  transport::RemoteMemory answer_;
  ServerConnection* connection_ = nullptr;
  std::span<std::byte> data_;
  std::array<std::byte, kMaxUserMessage> user_message_{};
};

/// Runs requests; one for each session, called by all workers.
class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  virtual void on_request(ServerRequest& request) = 0;
};

}  // namespace rnbd::rtrs
