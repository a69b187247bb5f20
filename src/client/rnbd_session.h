// SPDX-License-Identifier: Apache-2.0
// A session as RNBD has it: says hello, opens and closes devices, and opens them again when the
// server comes back, before any request is let out. Control thread; the control plane owns it.
//
// The server may not have noticed that the session was lost. So what was open is closed first: the
// answer to that comes when nothing of it is being executed any more, and whatever was given up
// meanwhile cannot land behind what is written next. To a server that has forgotten all of it, it
// means nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/control/event_log.h"
#include "common/control_context.h"
#include "common/result.h"
#include "common/rnbd_wire.h"
#include "transport/rtrs/client_session.h"

namespace rnbd::client {

/// A device that has to be opened again after the session was lost.
class SessionDevice {
 public:
  virtual ~SessionDevice() = default;
  virtual void on_session_lost(const std::string& why) = 0;
  /// Call `done` once workers use the new id, or cannot use the device at all.
  virtual void reopen(Executor::Task done) = 0;
  /// The session's settings are others now.
  virtual void on_session_changed() = 0;
  /// The device may have another size now.
  virtual void on_server_changed() = 0;
};

/// What to open, in RNBD's words.
struct OpenRequest {
  std::string device_path;
  wire::AccessMode access = wire::AccessMode::ReadWrite;
  wire::IoMode io_mode = wire::IoMode::ServerDefault;
};

class RnbdSession final : private rtrs::SessionEvents {
 public:
  RnbdSession(transport::Fabric& fabric, ControlContext& control,
              std::vector<WorkerContext*> workers, rtrs::SessionSettings settings,
              std::string memory_name, control::EventLog& events);

  Status start() { return session_.start(); }

  /// Calls `done` once devices can be opened, or with why they never will be. A session that has
  /// lost its server may be back at once: ENOTCONN when it has been away for ten seconds.
  void when_ready(std::move_only_function<void(Status)> done);

  /// Who waits for a server that was lost is told `why` now.
  void give_up_comeback(const Status& why);

  /// Errors: the server's errno, or ENOTCONN: the session was lost meanwhile.
  void open(const OpenRequest& request,
            std::move_only_function<void(Result<wire::OpenResponse>)> done);

  /// `done` whatever becomes of it: a session that is down has nothing open.
  void close_device(std::uint32_t device_id, Executor::Task done);

  /// Devices that reopen() is for.
  void add(SessionDevice& device) { devices_.push_back(&device); }
  void remove(SessionDevice& device) { std::erase(devices_, &device); }

  /// A process before this one had it open, under this id.
  void was_open(std::uint32_t device_id) { stale_ids_.insert(device_id); }

  /// Ends the session; no device is left.
  void stop(Executor::Task done) {
    ++life_;  // what is being answered now leads to nothing
    session_.close(std::move(done));
  }

  [[nodiscard]] rtrs::ClientSession& rtrs() { return session_; }
  /// What a path had counted when somebody asked for it to be shown from then on.
  struct PathMark {
    TimePoint at;
    std::uint64_t failovers = 0;
    std::uint64_t reconnects = 0;
  };
  void mark(const rtrs::PathKeeper& path);
  /// Null if nobody has.
  [[nodiscard]] const PathMark* mark_of(const rtrs::PathKeeper& path) const;

  /// Since when a path has been in its state.
  [[nodiscard]] TimePoint since(const rtrs::PathKeeper& path) const;
  /// Under which the session's buffers are kept.
  [[nodiscard]] const std::string& memory_name() const { return memory_name_; }
  [[nodiscard]] const rtrs::ClientSession& rtrs() const { return session_; }
  [[nodiscard]] const std::string& name() const { return session_.settings().name; }

 private:
  void on_session_up() override;
  void on_session_down(const Error& error, bool will_retry) override;
  void on_path_state(const rtrs::PathKeeper& path) override;
  void on_settings_changed() override;
  void on_server_changed() override;
  void on_refused(const Error& error);
  void on_hello(int error, std::span<const std::byte> answer);
  void close_stale();
  void reopen_devices();
  void become_ready();
  void expect_comeback();
  void refuse_waiting(Status why);
  [[nodiscard]] Status server_away() const;

  ControlContext& control_;
  const std::string memory_name_;
  control::EventLog& events_;
  rtrs::ClientSession session_;
  std::vector<SessionDevice*> devices_;
  std::map<std::size_t, TimePoint> path_changes_;     ///< by a path's number
  std::map<std::size_t, std::string> paths_told_;     ///< the state in a path's last event
  std::map<std::size_t, std::string> failures_told_;  ///< in the log, since a path was connected
  std::map<std::size_t, PathMark> path_marks_;
  std::set<std::uint32_t> open_ids_;   ///< at the server, in this life of the session
  std::set<std::uint32_t> stale_ids_;  ///< in the last one
  std::vector<std::move_only_function<void(Status)>> waiting_;
  std::unique_ptr<ControlContext::Timer> comeback_;  ///< while a lost server is waited for
  bool ready_ = false;
  bool was_ready_ = false;
  std::uint32_t life_ = 0;  ///< answers of an earlier life mean nothing
  Status failed_;
};

}  // namespace rnbd::client
