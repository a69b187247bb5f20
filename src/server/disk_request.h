// SPDX-License-Identifier: Apache-2.0
// One RNBD I/O request at the server, from the client's message to the disk's answer: checked here,
// executed by a store. One object a chunk, on the worker its request came to.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "common/cache_line.h"
#include "common/latency.h"
#include "common/limits.h"
#include "common/result.h"
#include "common/rnbd_wire.h"
#include "server/backend.h"
#include "server/block_store.h"
#include "transport/rtrs/server_request.h"
#include "transport/worker.h"

namespace rnbd::server {

/// A worker and the store that lives on it.
struct StoreWorker {
  WorkerContext* worker = nullptr;
  BlockStore* store = nullptr;
};

struct DiskCounters {
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t writes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t discards = 0;
  std::uint64_t zeroes = 0;
  std::uint64_t errors = 0;
};

struct DiskLatencies {
  IoLatencies server;  ///< from a request's arrival to its answer
  IoLatencies disk;    ///< of it what the disk took
};

/// A request that took long, when it is answered.
struct SlowDiskRequest {
  StoreOperation::Kind kind{};
  std::uint64_t offset = 0;  ///< bytes
  std::uint32_t length = 0;  ///< bytes
  int error = 0;             ///< it is answered with
  Duration taken{};
  Duration disk{};  ///< of it what the disk took
};

/// An open device as one worker sees it.
struct alignas(kCacheLine) WorkerDevice {
  bool open = false;
  bool writable = false;
  StoreTarget target;
  DiskLimits limits;
  std::uint32_t in_flight = 0;
  DiskCounters counters;
  std::unique_ptr<DiskLatencies> latencies;  ///< null: nobody wants to know
  Duration slow_io = Duration::max();        ///< from when on a request is told of
};

/// A request's message turned into an operation, or the errno to answer with: EINVAL (not a request
/// that makes sense), EIO (beyond the end), EROFS, EOPNOTSUPP. Pure.
std::expected<StoreOperation, int> plan_operation(const wire::Io& message,
                                                  rtrs::Direction direction,
                                                  std::span<std::byte> data,
                                                  const WorkerDevice& device);

class alignas(kCacheLine) DiskRequest final : public StoreClient {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    /// A device may have become idle.
    virtual void on_device_idle(std::size_t worker, std::uint32_t device_id) = 0;
    /// A request took WorkerDevice::slow_io or longer.
    virtual void on_slow_request(std::uint32_t device_id, const SlowDiskRequest& request) = 0;
  };

  /// Takes over `request`, an I/O message of `message`'s device on that device's worker.
  void start(rtrs::ServerRequest& request, const wire::Io& message, WorkerDevice& device,
             const StoreWorker& worker, int buffer_slot, Events& events);

 private:
  void on_store_done(int error) override;
  void count(const StoreOperation& operation);
  void time(int error);

  rtrs::ServerRequest* request_ = nullptr;
  WorkerDevice* device_ = nullptr;
  std::uint32_t device_id_ = 0;
  StoreOperation::Kind kind_{};
  std::uint64_t offset_ = 0;
  std::uint32_t length_ = 0;
  WorkerContext* worker_ = nullptr;
  TimePoint begun_;
  Events* events_ = nullptr;
};

}  // namespace rnbd::server
