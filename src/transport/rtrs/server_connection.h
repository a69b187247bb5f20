// SPDX-License-Identifier: Apache-2.0
// One connection of a client's path, at the server: recognises requests, hands them up, answers.
// Nothing a peer puts into a chunk or an immediate is believed before it is checked, and what is
// checked is a copy. Its worker's thread; the path owns it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/rtrs/chunk_table.h"
#include "transport/rtrs/connection.h"
#include "transport/rtrs/heartbeat.h"
#include "transport/rtrs/server_request.h"

namespace rnbd::rtrs {

/// What the connections of a path share.
struct ServerPathView {
  ServerParameters parameters;
  ChunkTable* chunks = nullptr;
  transport::Region* region = nullptr;  ///< the chunks' memory on this path's device
  RequestHandler* handler = nullptr;    ///< set before `connected`
  std::atomic<bool> connected = false;  ///< requests are welcome
  Beats beats = 0;
  std::unique_ptr<Heartbeat> heartbeat;  ///< connection 0's worker's, once connected
  const std::atomic<std::uint32_t>* generation = nullptr;  ///< the session's, for heartbeats

  // With parameters.new_key only: a key that dies with each request, and the message that brings
  // the next one.
  std::vector<std::unique_ptr<transport::Window>> windows;  ///< by chunk
  MemoryBlock key_messages;                                 ///< a KeyResponse each
  std::unique_ptr<transport::Region> key_region;

  /// By chunk: a connection of this path has it. Only to tell a request in a chunk that this path
  /// itself is using from a copy of another path's.
  std::vector<std::atomic<bool>> ours;
};

class ServerConnection final : public Connection {
 public:
  ServerConnection(std::uint16_t cid, std::size_t worker_index, WorkerContext& worker,
                   Executor& control, ConnectionEvents& events, ServerPathView& path);

  /// Work requests that one request may need at most.
  static constexpr std::uint32_t kWorkPerRequest = 4;

  [[nodiscard]] std::size_t worker_index() const { return worker_index_; }

  /// Requests that are not answered yet, those included that wait for a chunk. Any thread.
  [[nodiscard]] std::uint32_t in_flight() const {
    return in_flight_.load(std::memory_order_relaxed);
  }

  // Worker's thread.
  void respond(ServerRequest& request, int error);
  void send_heartbeat(ImmediateType type);  ///< or the answer to one
  void flush() override;

  /// A chunk that this connection waited for is its own now. Any thread.
  void hand_over(std::uint32_t chunk);

  /// Binds each chunk's window for the first time and calls `done` on this worker afterwards.
  void bind_all(Executor::Task done);

 private:
  void on_immediate(Immediate immediate, bool by_send, std::span<const std::byte> body) override;
  void on_own_work_done(std::uint32_t index) override;
  void on_room() override;
  [[nodiscard]] bool busy() const override { return in_flight() > 0; }
  void count_in_flight(std::int32_t change) {
    in_flight_.store(in_flight() + static_cast<std::uint32_t>(change), std::memory_order_relaxed);
  }

  void on_request(ChunkOffset target);
  void take(std::uint32_t chunk, std::uint32_t offset);
  void on_handed_over(std::uint32_t chunk);
  void advance(ServerRequest& request);
  void revoke_key(ServerRequest& request);
  Status parse(ServerRequest& request);
  Status parse_read(ServerRequest& request, std::span<const std::byte> message);
  void post_answer(ServerRequest& request);
  void post_new_key(const ServerRequest& request, Immediate immediate);
  [[nodiscard]] transport::WorkRequest bind_work(std::uint32_t chunk) const;
  void bind_more();
  void release(ServerRequest& request);
  void on_stopped() override;

  /// What a request that found the send queue full, or waits for its key to die, does next.
  enum class Stage : std::uint8_t { RevokeKey, Run, Answer };

  const std::size_t worker_index_;
  ServerPathView& path_;
  std::atomic<std::uint32_t> in_flight_ = 0;  ///< written by the worker alone
  std::vector<std::uint32_t> waiting_;        ///< by chunk: offset of a request that waits for it
  std::vector<Stage> stages_;                 ///< by chunk; meaningful while this connection has it
  std::vector<bool> held_;                    ///< by chunk: ours, and not the handler's just now
  std::vector<std::uint32_t> stalled_;        ///< chunks waiting for room, oldest first
  std::vector<std::uint32_t> resuming_;
  std::vector<std::uint32_t> answered_;  ///< with a new key that is not posted yet
  std::uint32_t to_bind_ = 0;            ///< the next chunk of bind_all(), up to the queue depth
  bool binding_ = false;
  Executor::Task on_bound_;
};

}  // namespace rnbd::rtrs
