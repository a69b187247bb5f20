// SPDX-License-Identifier: Apache-2.0
// Runs the requests of one session: I/O on the worker it came to, everything else (SESS_INFO, OPEN,
// CLOSE) on the control thread, which answers through here. Each worker has its own table of open
// devices, so that none shares or locks anything. The control plane owns it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "common/cache_line.h"
#include "common/executor.h"
#include "common/slow_io.h"
#include "server/disk_request.h"
#include "transport/rtrs/server_session.h"

namespace rnbd::server {

/// A device's part on one worker.
struct DeviceCount {
  std::uint32_t device_id = 0;
  std::uint32_t in_flight = 0;
  DiskCounters counters;
  DiskLatencies latencies;
};

/// Answer to a service message: 0 or a positive errno, and the data of a read.
struct ServiceAnswer {
  int error = 0;
  std::vector<std::byte> body;
};

/// Runs service messages; control thread.
class ServiceHandler {
 public:
  virtual ~ServiceHandler() = default;
  /// Answer once, on the control thread.
  virtual void on_service_message(std::vector<std::byte> message,
                                  std::move_only_function<void(ServiceAnswer)> answer) = 0;
  /// Which device that is, for the log; it may be gone.
  [[nodiscard]] virtual SlowIoLog::Subject subject(std::uint32_t device_id) = 0;
};

class Dispatcher final : public rtrs::RequestHandler, private DiskRequest::Events {
 public:
  /// Requests that take `slow_io` or longer are logged.
  Dispatcher(const std::vector<StoreWorker>& workers, ControlContext& control,
             rtrs::ChunkTable& chunks, std::uint32_t queue_depth, ServiceHandler& service,
             Duration slow_io = Duration::max());

  // Control thread. Each calls `done` there, after every worker has done its part.

  /// Lets workers use the chunks' memory as registered buffers.
  void start();

  /// Serves a device under an id that no worker knows.
  void open_device(std::uint32_t device_id, const Backend& backend, Executor::Task done);

  /// From now on the device ends there. It was opened.
  void resize_device(std::uint32_t device_id, std::uint64_t sectors, Executor::Task done);

  /// What has been done with each device that is open.
  using Counted = std::move_only_function<void(const std::vector<DeviceCount>&)>;
  void count(Counted done);

  /// Refuses new requests for the device; `done` once none is on its way to the disk.
  void close_device(std::uint32_t device_id, Executor::Task done);

  /// Lets go of everything. No request runs any more.
  void stop(Executor::Task done);

  void on_request(rtrs::ServerRequest& request) override;

 private:
  struct alignas(kCacheLine) Lane {
    StoreWorker worker;
    int buffer_slot = kNoSlot;
    std::vector<WorkerDevice> devices;             ///< by device id
    std::vector<Executor::Task> waiting_for_idle;  ///< by device id; control's, posted when idle
    std::vector<DeviceCount> counted;              ///< the worker's while `counting_` is not empty
  };

  void on_device_idle(std::size_t worker, std::uint32_t device_id) override;
  void on_slow_request(std::uint32_t device_id, const SlowDiskRequest& request) override;
  void on_io(rtrs::ServerRequest& request);
  void on_service(rtrs::ServerRequest& request);
  void leave(Lane& lane, std::uint32_t device_id);
  void on_each_lane(const std::function<void(Lane&)>& step, Executor::Task done);

  ControlContext& control_;
  rtrs::ChunkTable& chunks_;
  ServiceHandler& service_;
  std::vector<Lane> lanes_;
  const Duration slow_io_;
  /// By device id; made with the first device of that id, before workers know it.
  std::vector<std::unique_ptr<SlowIoLog>> slow_;
  std::vector<DiskRequest> requests_;  ///< by chunk
  std::vector<Counted> counting_;
};

}  // namespace rnbd::server
