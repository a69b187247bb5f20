// SPDX-License-Identifier: Apache-2.0
#include "micro/engine_pair.h"

#include <fcntl.h>
#include <utility>

#include "common/assert.h"
#include "common/limits.h"

namespace rnbd::micro {
namespace {

constexpr std::uint16_t kPort = 1234;

server::Backend open_disk(const std::filesystem::path& path) {
  UniqueFd location(::open(path.c_str(), O_PATH | O_CLOEXEC));
  const server::FoundDisk found(std::move(location), {}, path.string());
  auto disk = server::Backend::open(found, true, wire::IoMode::ServerDefault);
  RNBD_ASSERT(disk);
  return std::move(*disk);
}

}  // namespace

void NullStore::run() {
  while (server::StoreClient* client = queue_.pop().client) client->on_store_done(0);
}

NullServer::NullServer(sim::Host& host, bool new_keys, const std::filesystem::path& disk)
    : disk_(open_disk(disk)),
      acceptor_(control, {&worker},
                {.parameters = {.queue_depth = kQueueDepth,
                                .max_io_size = kMaxIo,
                                .max_header_size = limits::kHeaderArea,
                                .new_key = new_keys},
                 .limits = rtrs::ClientLimits::of_memory(std::uint64_t{1} << 30)},
                *this) {
  auto opened = host.listen({.text = "", .port = kPort}, acceptor_);
  RNBD_ASSERT(opened);
  listener_ = std::move(*opened);
}

Result<rtrs::RequestHandler*> NullServer::on_session_named(rtrs::ServerSession& session) {
  dispatcher_ =
      std::make_unique<server::Dispatcher>(std::vector<server::StoreWorker>{{&worker, &store}},
                                           control, session.chunks(), kQueueDepth, *this);
  dispatcher_->start();
  dispatcher_->open_device(kDevice, disk_, [] {});
  return dispatcher_.get();
}

void NullServer::on_session_closed(rtrs::ServerSession&, Executor::Task done) {
  dispatcher_->stop([this, done = std::move(done)]() mutable {
    dispatcher_.reset();
    done();
  });
}

void NullServer::on_service_message(std::vector<std::byte>,
                                    std::move_only_function<void(server::ServiceAnswer)>) {
  RNBD_ASSERT(false);
}

EnginePair::EnginePair(bool new_keys)
    : server_(fabric_.host("server"), new_keys, directory_.make_file("disk", kDiskBytes)),
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
