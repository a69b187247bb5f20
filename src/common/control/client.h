// SPDX-License-Identifier: Apache-2.0
// The commands' end of the control socket: blocking, one request at a time. Owned by one thread of
// a command; the daemons never use it.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <string>
#include <string_view>

#include "common/control/messages.h"
#include "common/unique_fd.h"

namespace rnbd::control {

/// Which daemon a command talks to; for the advice when it does not run.
struct DaemonAddress {
  std::string program;         ///< "rnbd-client", also the name of its systemd unit
  std::string path;            ///< of the control socket
  std::string default_socket;  ///< what the unit listens on
  std::string config_file;     ///< that says so; empty: none has to
};

class Client {
 public:
  /// Connects at once or fails: ExitCode::NoDaemon with a hint how to start it if nobody listens.
  static std::expected<Client, Failure> connect(const DaemonAddress& daemon);

  /// Sends a request and waits for its answer. After `timeout` fails with ETIMEDOUT: the daemon
  /// goes on with the operation, but this client is of no more use. NoDaemon: it went away.
  /// `waiting` is called about once a second meanwhile.
  Outcome call(
      const Request& request, std::chrono::milliseconds timeout,
      const std::function<void()>& waiting = [] {});

 private:
  Client(UniqueFd socket, std::string program)
      : socket_(std::move(socket)), program_(std::move(program)) {}
  Failure went_away(int code) const;
  Status send(std::string_view line);
  std::expected<std::string, Failure> receive(std::chrono::milliseconds timeout,
                                              const std::function<void()>& waiting);

  UniqueFd socket_;
  std::string program_;
  std::string buffer_;  ///< received, not yet answered to the caller
};

}  // namespace rnbd::control
