// SPDX-License-Identifier: Apache-2.0
// The daemons' end of the control socket. Runs on the control thread's io_context and belongs to
// that thread: everything here is called there, and handlers run there. Nothing blocks. A client
// may vanish at any moment; answers to it then go nowhere. Who may ask for what: access.h.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "common/control/messages.h"

namespace rnbd::control {

/// The right and the duty to answer one request, now or later. Dropped unanswered, it answers with
/// ECANCELED, so that no command waits for a daemon that forgot it.
class Reply {
 public:
  using Send = std::function<void(const Outcome&)>;

  explicit Reply(Send send) : send_(std::move(send)) {}
  Reply(Reply&& other) noexcept : send_(std::exchange(other.send_, nullptr)) {}
  Reply& operator=(Reply&&) = delete;
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  ~Reply();

  /// Answers; once. Of an error the errno decides the exit code of the command (exit_codes.h), and
  /// what follows a newline in its message is printed as advice on a line of its own.
  void operator()(Result<Json> result);

  /// Answers with a failure that has an exit code of its own.
  void refuse(const Failure& failure);

 private:
  Send send_;
};

/// Whoever brings requests to their handlers.
class Commands {
 public:
  using Handler = std::function<void(const Json& args, Reply reply)>;

  virtual ~Commands() = default;
  /// `handler` answers requests for `verb`; `args` is an object, whose members nobody has checked
  /// (verbs.h reads them).
  virtual void handle(std::string verb, Handler handler) = 0;
};

class ControlServer final : public Commands {
 public:
  /// `context` outlives the server.
  explicit ControlServer(boost::asio::io_context& context);
  /// Disconnects everybody and removes the socket's file. Replies still held become harmless.
  ~ControlServer() override;
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  /// All before listen().
  void handle(std::string verb, Handler handler) override;

  /// Starts to serve at `path`. Errors: those of listen_at().
  Status listen(const std::string& path);

  /// Connections that are open.
  [[nodiscard]] std::size_t clients() const;

 private:
  class Core;
  std::shared_ptr<Core> core_;  ///< shared with operations that Asio has yet to cancel
};

}  // namespace rnbd::control
