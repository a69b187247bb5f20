// SPDX-License-Identifier: Apache-2.0
// The block queues of one device, one on each worker it uses, and their ends of the sockets.
// Control thread; every change is made on the queues' own workers, and told back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "client/block_queue.h"
#include "client/device_file.h"
#include "common/executor.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "transport/rtrs/client_session.h"

namespace rnbd::client {

class DeviceQueues {
 public:
  /// A queue for each of `sockets`, our ends, over a channel of the session each (in turn, if it
  /// has fewer), with the journals of `file`; not started. Session and file outlive them. Errors:
  /// those of BlockQueue::create.
  static Result<std::unique_ptr<DeviceQueues>> create(
      rtrs::ClientSession& session, Executor& control, std::vector<UniqueFd> sockets,
      const DeviceFile& file, const BlockQueue::Config& config, BlockQueueEvents& events);

  void start();

  /// No queue takes another request; `done` once all that were taken are answered.
  void drain(Executor::Task done);

  /// From now on everything is answered with EIO; until serve_again().
  void fail_all(Executor::Task done);
  void serve_again();

  /// Requests of the kernel's that are not answered.
  [[nodiscard]] std::uint32_t in_flight() const;

  /// What all queues together have counted; `done` on the control thread.
  void count(std::move_only_function<void(const BlockQueueCounters&)> done);

  /// The device has another size; whether and under which id it is open at the server stays.
  void set_shape(const DeviceShape& shape, Executor::Task done);

  void set_device(std::uint32_t device_id, const DeviceShape& shape, Executor::Task done);

  /// Destroys the queues, each on its worker. The kernel has let go of the sockets. What is asked
  /// of them afterwards is done at once: nothing.
  void destroy(Executor::Task done);

  [[nodiscard]] std::size_t size() const { return members_.size(); }

 private:
  struct Member {
    WorkerContext* worker = nullptr;
    std::unique_ptr<BlockQueue> queue;
    BlockQueueCounters counted;  ///< the worker's while `counting_` is not empty
  };
  explicit DeviceQueues(Executor& control) : control_(control) {}
  void on_each(const std::function<void(Member&)>& step, Executor::Task done);

  Executor& control_;
  std::vector<Member> members_;
  std::vector<std::move_only_function<void(const BlockQueueCounters&)>> counting_;
  bool ending_ = false;
};

}  // namespace rnbd::client
