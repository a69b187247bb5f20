// SPDX-License-Identifier: Apache-2.0
#include "micro/engine_pair.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::micro {
namespace {

constexpr std::uint16_t kPort = 1234;
constexpr std::string_view kDisk = "disk";

}  // namespace

void NullStore::run() {
  while (server::StoreClient* client = queue_.pop().client) client->on_store_done(0);
}

NullServer::NullServer(sim::Host& host, bool new_keys, const std::string& directory)
    : exports_(*server::SearchPath::create(directory)),
      acceptor_(control, {&worker},
                {.parameters = {.queue_depth = kQueueDepth,
                                .max_io_size = kMaxIo,
                                .max_header_size = limits::kHeaderArea,
                                .new_key = new_keys},
                 .memory_limit = std::uint64_t{1} << 30},
                *this) {
  auto opened = host.listen({.text = "", .port = kPort}, acceptor_);
  RNBD_ASSERT(opened);
  listener_ = std::move(*opened);
}

Result<rtrs::RequestHandler*> NullServer::on_session_named(rtrs::ServerSession& session) {
  peer_ = std::make_unique<server::SessionPeer>(
      1, session, std::vector<server::StoreWorker>{{&worker, &store}}, control, exports_);
  return &peer_->handler();
}

void NullServer::on_session_closed(rtrs::ServerSession&, Executor::Task done) {
  peer_->stop([this, done = std::move(done)]() mutable {
    peer_.reset();
    done();
  });
}

EnginePair::EnginePair(bool new_keys)
    : server_((static_cast<void>(directory_.make_file(std::string(kDisk), kDiskBytes)),
               fabric_.host("server")),
              new_keys, directory_.path().string()),
      session_(fabric_.host("client"), control_, {&worker_},
               {.name = "micro",
                .paths = {{.route = {.source = {},
                                     .destination = {.text = fabric_.host("server").address(0),
                                                     .port = kPort}},
                           .uuid = {2}}},
                .session_uuid = {1}},
               *this) {
  session_.start();
  until([this] { return up_; });
  open_device();
}

EnginePair::~EnginePair() {
  bool closed = false;
  session_.close([&] { closed = true; });
  until([&] { return closed && fabric_.endpoints() == 0; });
}

void EnginePair::on_session_up() {
  up_ = true;
  session_.resume();
}

void EnginePair::on_session_down(const Error&, bool) { RNBD_ASSERT(false); }

void EnginePair::open_device() {
  wire::Open open;
  open.header = wire::header(wire::MessageType::Open);
  open.access_mode = std::to_underlying(wire::AccessMode::ReadWrite);
  std::ranges::copy(kDisk, open.device_name.begin());
  const auto bytes = std::as_bytes(std::span(&open, 1));
  session_.send({.direction = rtrs::Direction::Read,
                 .message = {bytes.begin(), bytes.end()},
                 .answer_length = sizeof(wire::OpenResponse),
                 .done = [this](int error, const std::vector<std::byte>& answer) {
                   RNBD_ASSERT(error == 0);
                   device_id_ = load<wire::OpenResponse>(answer).device_id;
                 }});
  until([this] { return device_id_.has_value(); });
}

void EnginePair::until(const std::function<bool()>& condition) {
  const bool came = sim::run_until(
      condition, {&server_.control.context(), &server_.worker, &control_.context(), &worker_},
      fabric_);
  RNBD_ASSERT(came);
}

void EnginePair::turn() {
  worker_.run_once();
  fabric_.run_until_idle();
  server_.worker.run_once();
  server_.store.run();
  server_.worker.run_once();
  fabric_.run_until_idle();
}

}  // namespace rnbd::micro
