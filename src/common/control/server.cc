// SPDX-License-Identifier: Apache-2.0
// One Connection for each client: read a line, run the handler, write the answer, read on. A
// connection holds one request at a time, so a client that only talks cannot make us buffer.
#include "common/control/server.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <set>
#include <string_view>
#include <unistd.h>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>
#include <sys/stat.h>

#include "common/assert.h"
#include "common/control/access.h"
#include "common/control/listen_socket.h"
#include "common/log.h"

namespace rnbd::control {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using UnixSocket = asio::local::stream_protocol::socket;

constexpr std::size_t kMaxClients = 256;
constexpr std::size_t kMaxReaders = 128;  // of them, so that who may change things finds a place
constexpr std::chrono::seconds kRefusalPause{1};  // between lines about who may not
constexpr std::chrono::milliseconds kAcceptPause{100};

/// Which file a path names, to see whether it is still ours.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};

FileId file_id(const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) return {};
  return {found.st_dev, found.st_ino};
}

class Connection;

/// What connections need of their server. Gone once the server is.
class Owner {
 public:
  virtual ~Owner() = default;
  virtual void dispatch(const Peer& peer, const Request& request, Reply reply) = 0;
  virtual void gone(const std::shared_ptr<Connection>& connection) = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(UnixSocket socket, Peer peer, std::weak_ptr<Owner> owner)
      : socket_(std::move(socket)), peer_(peer), owner_(std::move(owner)) {}

  void start() { read(); }

  [[nodiscard]] const Peer& peer() const { return peer_; }

  void close() {
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  void read() {
    asio::async_read_until(socket_, asio::dynamic_buffer(buffer_, kMaxRequestLine), '\n',
                           [self = shared_from_this()](error_code error, std::size_t length) {
                             self->on_read(error, length);
                           });
  }

  void on_read(error_code error, std::size_t length) {
    if (error == asio::error::not_found) return refuse_long_line();
    if (error) return end();
    const auto request = decode_request(std::string_view(buffer_).substr(0, length - 1));
    buffer_.erase(0, length);
    if (!request) return answer(std::unexpected(to_failure(request.error())));
    const auto owner = owner_.lock();
    if (!owner) return;
    owner->dispatch(peer_, *request, Reply([weak = weak_from_this()](const Outcome& outcome) {
                      if (const auto self = weak.lock()) self->answer(outcome);
                    }));
  }

  /// Where the next request begins is unknown, so this is the last answer.
  void refuse_long_line() {
    last_answer_ = true;
    answer(std::unexpected(
        to_failure({EINVAL, fmt::format("a request may have {} bytes", kMaxRequestLine)})));
  }

  void answer(const Outcome& outcome) {
    if (!socket_.is_open()) return;
    output_ = encode(outcome);
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](error_code error, std::size_t) {
                        if (error || self->last_answer_) return self->end();
                        self->read();
                      });
  }

  void end() {
    close();
    if (const auto owner = owner_.lock()) owner->gone(shared_from_this());
  }

  UnixSocket socket_;
  const Peer peer_;
  std::weak_ptr<Owner> owner_;
  std::string buffer_;  ///< received, not yet handled
  std::string output_;  ///< the answer being written
  bool last_answer_ = false;
};

}  // namespace

Reply::~Reply() {
  if (send_) (*this)(fail(ECANCELED, "the daemon dropped the request"));
}

void Reply::operator()(Result<Json> result) {
  RNBD_ASSERT(send_);
  const Send send = std::exchange(send_, nullptr);
  if (result) {
    send(std::move(*result));
  } else {
    send(std::unexpected(to_failure(std::move(result.error()))));
  }
}

void Reply::refuse(const Failure& failure) {
  RNBD_ASSERT(send_);
  std::exchange(send_, nullptr)(std::unexpected(failure));
}

class ControlServer::Core : public Owner, public std::enable_shared_from_this<Core> {
 public:
  explicit Core(asio::io_context& context) : acceptor_(context), pause_(context) {}

  void handle(std::string verb, Handler handler) {
    handlers_.insert_or_assign(std::move(verb), std::move(handler));
  }

  Status listen(const std::string& path) {
    auto socket = listen_at(path);
    if (!socket) return fail(std::move(socket.error()));
    path_ = path;
    file_ = file_id(path);
    acceptor_.assign(asio::local::stream_protocol(), socket->release());
    accept();
    return {};
  }

  void close() {
    error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    for (const auto& connection : connections_) connection->close();
    connections_.clear();
    // A successor may have replaced the file by its own.
    if (!path_.empty() && file_ == file_id(path_)) ::unlink(path_.c_str());
  }

  [[nodiscard]] std::size_t clients() const { return connections_.size(); }

  void dispatch(const Peer& peer, const Request& request, Reply reply) override {
    const auto found = handlers_.find(request.verb);
    if (found == handlers_.end()) {
      return reply(fail(ENOSYS, fmt::format("this daemon has no verb '{}'", request.verb)));
    }
    if (auto allowed = check_access(peer, request.verb); !allowed) {
      tell_refusal(peer, request.verb);
      return reply(fail(std::move(allowed.error())));
    }
    found->second(request.args, std::move(reply));
  }

  void gone(const std::shared_ptr<Connection>& connection) override {
    const bool full = connections_.size() == kMaxClients;
    if (connections_.erase(connection) == 1 && full) accept();
  }

 private:
  void accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, UnixSocket socket) {
      self->on_accept(error, std::move(socket));
    });
  }

  void on_accept(error_code error, UnixSocket socket) {
    if (!acceptor_.is_open()) return;
    if (error) return accept_later(error);
    const auto peer = peer_of(socket.native_handle());
    if (peer && !may_change(*peer) && readers() >= kMaxReaders) {
      log::debug("control socket {}: a reader too many is hung up on", path_);
    } else if (peer) {
      const auto connection =
          std::make_shared<Connection>(std::move(socket), *peer, weak_from_this());
      connections_.insert(connection);
      connection->start();
    } else {
      log::warn("control socket {}: {}", path_, describe(peer.error()));
    }
    // When full, further clients wait in the kernel's queue; gone() goes on.
    if (connections_.size() < kMaxClients) accept();
  }

  [[nodiscard]] std::size_t readers() const {
    return static_cast<std::size_t>(std::ranges::count_if(
        connections_, [](const auto& one) { return !may_change(one->peer()); }));
  }

  void tell_refusal(const Peer& peer, const std::string& verb) {
    const auto now = std::chrono::steady_clock::now();
    if (now < quiet_until_) return;
    quiet_until_ = now + kRefusalPause;
    log::warn("process {} of user {} has asked for '{}' and was refused", peer.process, peer.user,
              verb);
  }

  /// Mostly out of descriptors: the client stays queued, so accepting at once would spin.
  void accept_later(error_code error) {
    log::warn("control socket {}: cannot accept: {}", path_, error.message());
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([self = shared_from_this()](error_code cancelled) {
      if (!cancelled && self->acceptor_.is_open()) self->accept();
    });
  }

  asio::local::stream_protocol::acceptor acceptor_;
  asio::steady_timer pause_;
  std::map<std::string, Handler, std::less<>> handlers_;
  std::set<std::shared_ptr<Connection>> connections_;
  std::string path_;
  FileId file_;
  std::chrono::steady_clock::time_point quiet_until_;  ///< about refusals
};

ControlServer::ControlServer(asio::io_context& context) : core_(std::make_shared<Core>(context)) {}

ControlServer::~ControlServer() { core_->close(); }

void ControlServer::handle(std::string verb, Handler handler) {
  core_->handle(std::move(verb), std::move(handler));
}

Status ControlServer::listen(const std::string& path) { return core_->listen(path); }

std::size_t ControlServer::clients() const { return core_->clients(); }

}  // namespace rnbd::control
