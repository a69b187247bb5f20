// SPDX-License-Identifier: Apache-2.0
// One client's session as RNBD has it: answers SESS_INFO, OPEN and CLOSE, and keeps the session's
// exports and its workers' tables of open devices in step. Control thread; the control plane owns
// it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "common/control_context.h"
#include "server/dispatcher.h"
#include "server/exports.h"
#include "transport/rtrs/server_session.h"

namespace rnbd::server {

class SessionPeer final : public ServiceHandler {
 public:
  /// `id`: unlike any other session's, ever. Requests that take `slow_io` or longer are logged.
  SessionPeer(std::uint64_t id, rtrs::ServerSession& session,
              const std::vector<StoreWorker>& workers, ControlContext& control, Exports& exports,
              Duration slow_io = Duration::max());

  /// A device that is open has another size now: workers are told, then the client.
  void resize(const Export& entry);

  /// Closes a device that is open, whoever uses it: its client's requests fail with ENOTCONN, and
  /// the client is told that something has changed. One that is still being opened is refused, with
  /// ENOTCONN. `done` when none runs on the disk any more; at once if the session ends anyway.
  void force_close(std::uint32_t device_id, Executor::Task done);

  /// As Dispatcher::count(); nothing while it stops.
  void count(Dispatcher::Counted done);

  /// Closes everything the session has open; no request runs any more.
  void stop(Executor::Task done);

  [[nodiscard]] std::uint64_t id() const { return id_; }
  /// It has had a device open.
  [[nodiscard]] bool has_served() const { return session_.served(); }
  [[nodiscard]] rtrs::ServerSession& session() { return session_; }
  [[nodiscard]] rtrs::RequestHandler& handler() { return dispatcher_; }

 private:
  using Answer = std::move_only_function<void(ServiceAnswer)>;

  void on_service_message(std::vector<std::byte> message, Answer answer) override;
  [[nodiscard]] SlowIoLog::Subject subject(std::uint32_t device_id) override;
  void on_session_info(std::span<const std::byte> message, Answer answer);
  void on_open(std::span<const std::byte> message, Answer answer);
  void on_close(std::span<const std::byte> message, Answer answer);
  void on_device_ready(std::uint32_t device_id);
  void begin_close(std::uint32_t device_id);
  void on_device_idle(std::uint32_t device_id);
  [[nodiscard]] ServiceAnswer describe_device(std::uint32_t device_id);

  const std::uint64_t id_;
  rtrs::ServerSession& session_;
  Exports& exports_;
  Dispatcher dispatcher_;
  bool stopping_ = false;
  std::set<std::uint32_t> served_;  ///< devices that all workers know
  /// Devices that workers do not know yet, and who waits for them.
  std::map<std::uint32_t, std::vector<Answer>> opening_;
  /// Who waits for the end of a device's requests: a client that was lost in between asks again,
  /// and relies on the answer.
  struct Closing {
    std::vector<Answer> clients;
    std::vector<Executor::Task> administrators;
    bool refused = false;  ///< its OPEN was: no client knows the id
  };
  /// Devices of which requests are on the way to the disk, and those that shall be refused once
  /// workers know them.
  std::map<std::uint32_t, Closing> closing_;
};

/// What OPEN answers for a disk. Pure.
wire::OpenResponse open_response(const Export& entry, std::uint32_t max_io_size);

}  // namespace rnbd::server
