// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <netinet/in.h>
#include <set>
#include <unistd.h>
#include <utility>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>
#include <sys/socket.h>

#include "common/control/listen_socket.h"
#include "common/log.h"
#include "common/metrics_address.h"
#include "common/unique_fd.h"

namespace rnbd::metrics {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Protocol = asio::generic::stream_protocol;

constexpr std::size_t kMaxClients = 16;
constexpr std::uint32_t kMaxRequest = 8192;
constexpr std::size_t kBuffer = 2 * std::size_t{kMaxRequest};
constexpr std::chrono::milliseconds kAcceptPause{100};
constexpr const char* kTextFormat = "text/plain; version=0.0.4; charset=utf-8";

class Connection;

/// Who serves the connections.
class Owner {
 public:
  virtual ~Owner() = default;
  virtual void collect(std::function<void(std::string page)> done) = 0;
  virtual void gone(const std::shared_ptr<Connection>& connection) = 0;
};

bool is_http(error_code error) {
  return error.category() == http::make_error_code(http::error::end_of_stream).category();
}

bool is_page(std::string_view target) { return target.substr(0, target.find('?')) == "/metrics"; }

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Protocol::socket socket, std::weak_ptr<Owner> owner)
      : socket_(std::move(socket)),
        owner_(std::move(owner)),
        deadline_(socket_.get_executor()),
        buffer_(kBuffer) {}

  void start(std::chrono::milliseconds patience) {
    deadline_.expires_after(patience);
    deadline_.async_wait([weak = weak_from_this()](error_code cancelled) {
      if (const auto self = weak.lock(); self && !cancelled) self->end();
    });
    parser_.header_limit(kMaxRequest);
    http::async_read_header(
        socket_, buffer_, parser_,
        [self = shared_from_this()](error_code error, std::size_t) { self->on_request(error); });
  }

  void close() {
    error_code ignored;
    deadline_.cancel();
    socket_.close(ignored);
  }

 private:
  void on_request(error_code error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return answer(http::status::request_header_fields_too_large, "the request is too long\n");
    }
    const bool nothing =
        error == http::error::end_of_stream || error == http::error::partial_message;
    if (is_http(error) && !nothing) {
      return answer(http::status::bad_request, "that is no request\n");
    }
    if (error) return end();
    const std::string_view target(parser_.get().target().data(), parser_.get().target().size());
    if (!is_page(target)) return answer(http::status::not_found, "there is only /metrics\n");
    if (parser_.get().method() != http::verb::get) {
      answer_.set(http::field::allow, "GET");
      return answer(http::status::method_not_allowed, "GET is all that can be done with it\n");
    }
    collect();
  }

  void collect() {
    const auto owner = owner_.lock();
    if (!owner) return;
    // It may be long until the page is there; the deadline has it by then.
    owner->collect([weak = weak_from_this()](std::string page) {
      const auto self = weak.lock();
      if (!self || !self->socket_.is_open()) return;
      self->answer_.set(http::field::content_type, kTextFormat);
      self->answer(http::status::ok, std::move(page));
    });
  }

  void answer(http::status status, std::string body) {
    answer_.result(status);
    answer_.body() = std::move(body);
    answer_.keep_alive(false);
    answer_.prepare_payload();
    http::async_write(socket_, answer_, [self = shared_from_this()](error_code, std::size_t) {
      error_code ignored;
      self->socket_.shutdown(Protocol::socket::shutdown_send, ignored);
      self->end();
    });
  }

  void end() {
    close();
    if (const auto owner = owner_.lock()) owner->gone(shared_from_this());
  }

  Protocol::socket socket_;
  std::weak_ptr<Owner> owner_;
  asio::steady_timer deadline_;
  boost::beast::flat_buffer buffer_;
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> answer_;
};

Result<UniqueFd> listen_on(const sockaddr* address, socklen_t length, const std::string& text) {
  UniqueFd socket(
      ::socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  const int on = 1;
  // A daemon that is started again finds connections of the former one still ending.
  if (!socket || ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(socket.get(), address, length) != 0 || ::listen(socket.get(), kMaxClients) != 0) {
    return fail(errno, fmt::format("cannot serve metrics on {}", text));
  }
  return socket;
}

Result<UniqueFd> listen_on_tcp(const MetricsAddress& address) {
  const std::string text = fmt::format("{} port {}", address.ip, address.port);
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET6, address.ip.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    return listen_on(reinterpret_cast<const sockaddr*>(&v6), sizeof v6, text);
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(address.port);
  ::inet_pton(AF_INET, address.ip.c_str(), &v4.sin_addr);
  return listen_on(reinterpret_cast<const sockaddr*>(&v4), sizeof v4, text);
}

int family_of(const MetricsAddress& address) {
  if (!address.path.empty()) return AF_UNIX;
  return address.ip.contains(':') ? AF_INET6 : AF_INET;
}

}  // namespace

class MetricsServer::Core : public Owner, public std::enable_shared_from_this<Core> {
 public:
  Core(asio::io_context& context, Collect collect, std::chrono::milliseconds patience)
      : acceptor_(context), pause_(context), collect_(std::move(collect)), patience_(patience) {}

  Status listen(const MetricsAddress& address) {
    auto socket = address.path.empty() ? listen_on_tcp(address) : control::listen_at(address.path);
    if (!socket) return fail(socket.error());
    path_ = address.path;
    acceptor_.assign(Protocol(family_of(address), 0), socket->release());
    accept();
    return {};
  }

  void close() {
    // As long as we listen nobody takes the path.
    if (!path_.empty()) ::unlink(path_.c_str());
    error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    for (const auto& connection : connections_) connection->close();
    connections_.clear();
  }

  void collect(std::function<void(std::string page)> done) override { collect_(std::move(done)); }

  void gone(const std::shared_ptr<Connection>& connection) override {
    const bool full = connections_.size() == kMaxClients;
    if (connections_.erase(connection) == 1 && full) accept();
  }

 private:
  void accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, Protocol::socket socket) {
      self->on_accept(error, std::move(socket));
    });
  }

  void on_accept(error_code error, Protocol::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) return accept_later(error);
    const auto connection = std::make_shared<Connection>(std::move(socket), weak_from_this());
    connections_.insert(connection);
    connection->start(patience_);
    if (connections_.size() < kMaxClients) accept();
  }

  /// Mostly out of descriptors: who asks stays queued, so accepting at once would spin.
  void accept_later(error_code error) {
    log::warn("metrics: cannot accept: {}", error.message());
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([self = shared_from_this()](error_code cancelled) {
      if (!cancelled && self->acceptor_.is_open()) self->accept();
    });
  }

  asio::basic_socket_acceptor<Protocol> acceptor_;
  asio::steady_timer pause_;
  Collect collect_;
  const std::chrono::milliseconds patience_;
  std::set<std::shared_ptr<Connection>> connections_;
  std::string path_;
};

MetricsServer::MetricsServer(asio::io_context& context, Collect collect,
                             std::chrono::milliseconds patience)
    : core_(std::make_shared<Core>(context, std::move(collect), patience)) {}

MetricsServer::~MetricsServer() { core_->close(); }

Status MetricsServer::listen(const std::string& address) {
  if (address.empty()) return {};
  const auto parsed = parse_metrics_address(address);
  if (!parsed) return fail(parsed.error());
  if (Status listening = core_->listen(*parsed); !listening) return listening;
  log::info("metrics are on {}", address);
  return {};
}

}  // namespace rnbd::metrics
