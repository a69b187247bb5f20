// SPDX-License-Identifier: Apache-2.0
// Both engines on one thread: a client's session and a whole server but for verbs and io_uring,
// over the in-memory fabric, with one queue and a disk that does nothing. One device is open.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "common/rnbd_wire.h"
#include "server/backend.h"
#include "server/dispatcher.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "transport/rtrs/client_session.h"
#include "transport/rtrs/server_acceptor.h"
#include "unit/temp_directory.h"

namespace rnbd::micro {

inline constexpr std::uint32_t kQueueDepth = 128;
inline constexpr std::uint32_t kMaxIo = 126976;
inline constexpr std::uint64_t kDiskBytes = 1 << 30;

/// Every operation succeeds, in its order, when it is told to.
class NullStore final : public server::BlockStore {
 public:
  void submit(const server::StoreOperation& operation, const server::StoreTarget& target,
              server::StoreClient& client) override {
    queue_.push(operation, target, client);
  }
  void run();

 private:
  server::StoreQueue queue_;
};

/// Its one device is open from the beginning: names are looked up by a system call that valgrind
/// does not know.
class NullServer final : public rtrs::ServerSessionEvents, public server::ServiceHandler {
 public:
  static constexpr std::uint32_t kDevice = 0;

  NullServer(sim::Host& host, bool new_keys, const std::filesystem::path& disk);

  Result<rtrs::RequestHandler*> on_session_named(rtrs::ServerSession& session) override;
  void on_session_closed(rtrs::ServerSession& session, Executor::Task done) override;
  void on_session_ended(rtrs::ServerSession&) override {}

  sim::ManualControl control;
  sim::ManualContext worker;
  NullStore store;

 private:
  void on_service_message(std::vector<std::byte> message,
                          std::move_only_function<void(server::ServiceAnswer)> answer) override;
  SlowIoLog::Subject subject(std::uint32_t) override { return {}; }

  server::Backend disk_;
  std::unique_ptr<server::Dispatcher> dispatcher_;
  rtrs::ServerAcceptor acceptor_;
  std::unique_ptr<transport::Listener> listener_;
};

class EnginePair final : public rtrs::SessionEvents {
 public:
  explicit EnginePair(bool new_keys);
  ~EnginePair() override;

  /// The client's queue, and the worker it lives on.
  [[nodiscard]] rtrs::SessionQueue& queue() { return session_.queue(0); }
  [[nodiscard]] WorkerContext& worker() { return worker_; }

  /// One round of the data path: both workers, the fabric, the disk.
  void turn();

 private:
  void on_session_up() override;
  void on_session_down(const Error& error, bool will_retry) override;
  void until(const std::function<bool()>& condition);

  rnbd::test::TempDirectory directory_;
  sim::MemoryFabric fabric_;
  NullServer server_;
  sim::ManualControl control_;
  sim::ManualContext worker_;
  rtrs::ClientSession session_;
  bool up_ = false;
};

}  // namespace rnbd::micro
