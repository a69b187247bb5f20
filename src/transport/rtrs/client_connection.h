// SPDX-License-Identifier: Apache-2.0
// One connection of a client's path: puts requests on the wire and recognises their answers. Its
// worker's thread; the path owns it.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "transport/rtrs/connection.h"
#include "transport/rtrs/session_core.h"

namespace rnbd::rtrs {

/// Takes the answers of one connection.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  /// Has a request with that permit been sent here and not been answered yet?
  [[nodiscard]] virtual bool awaits(PermitId permit) const = 0;
  /// False: awaits() would have said no.
  virtual bool on_response(PermitId permit, int error) = 0;
  /// The connection can send again.
  virtual void on_connection_room() = 0;
};

/// What the connections of a path share: the server's chunks as seen over this path. A chunk's key
/// is written by whoever holds its permit.
struct PathView {
  ServerParameters parameters;
  std::vector<transport::RemoteMemory> chunks;
  const transport::Region* buffers = nullptr;  ///< the session's memory, on this path's device

  Beats beats = 0;

  /// What the server's last heartbeat or answer to one brought, and whether the control thread has
  /// yet to look.
  std::atomic<std::uint32_t> generation = 0;
  std::atomic<bool> generation_told = false;

  // Connection 0's worker.
  TimePoint heartbeat_sent = kNever;  ///< the last one, while it is not answered
  PathStats* stats = nullptr;
};

class ClientConnection final : public Connection {
 public:
  ClientConnection(std::uint16_t cid, WorkerContext& worker, Executor& control,
                   ConnectionEvents& events, PathView& path)
      : Connection(cid, worker, control, events, path.beats), path_(path) {}

  // Worker's thread.
  void serve(ResponseSink& sink) { sink_ = &sink; }

  /// Can a request be sent now? If not for want of room, on_connection_room() will say when.
  bool ready();

  /// Sends the request of `permit`; ready() has said yes.
  void send(SessionCore& core, PermitId permit);

 private:
  void on_immediate(Immediate immediate, bool by_send, std::span<const std::byte> body) override;
  void on_room() override;
  void on_generation(std::uint32_t generation);
  void on_heartbeat_ack();
  void on_response(Outcome outcome, bool by_send, std::span<const std::byte> body);
  Status take_key(Outcome outcome, std::span<const std::byte> body);

  PathView& path_;
  ResponseSink* sink_ = nullptr;
  bool starved_ = false;
};

}  // namespace rnbd::rtrs
