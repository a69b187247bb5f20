// SPDX-License-Identifier: Apache-2.0
// One mapped device: opened at a server, attached to the kernel as /dev/nbdX, opened again when the
// server comes back, and taken apart in one order. Control thread; the control plane owns it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/descriptor_keeper.h"
#include "client/device_file.h"
#include "client/device_queues.h"
#include "client/map_words.h"
#include "client/nbd_driver.h"
#include "client/rnbd_session.h"
#include "common/control/event_log.h"
#include "common/control/verbs.h"
#include "common/slow_io.h"

namespace rnbd::client {

/// In life order.
enum class DeviceState : std::uint8_t {
  Opening,    ///< OPEN is on its way
  Attaching,  ///< the kernel is being told
  Open,
  Detaching,
  Gone,  ///< nothing is left of it, here or at the server
};

class Device final : public SessionDevice, private BlockQueueEvents {
 public:
  /// Told on the control thread.
  class Events {
   public:
    virtual ~Events() = default;
    /// It was never mapped, or was unmapped, by whomever. It may be destroyed, but not in here.
    virtual void on_device_gone(Device& device) = 0;
  };

  /// `name`: under which `keeper` keeps what a successor needs. Requests that take `slow_io` or
  /// longer are logged.
  Device(RnbdSession& session, ControlContext& control, NbdDriver& nbd, DescriptorKeeper& keeper,
         std::string name, MapRequest request, Duration slow_io, Events& events,
         control::EventLog& log);

  /// Answers with the node. On an error everything has been undone, and on_device_gone follows.
  void map(std::move_only_function<void(Result<std::string>)> done);

  /// The map has failed since the server was lost meanwhile, which may well be back already.
  [[nodiscard]] bool lost_on_the_way() const { return lost_on_the_way_; }

  /// Goes on with a device of a process before this one, which the kernel has and the session has
  /// yet to open. Instead of map(), once. Errors: those of BlockQueue::create.
  Status resume(DeviceFile file, const DeviceRecord& record, std::vector<UniqueFd> sockets);

  /// Takes no more requests; `done` once all that were taken are answered.
  void drain(Executor::Task done);

  /// `force`: whoever uses it; what is in flight fails with EIO, an unmap that hangs on a server
  /// that is away included. Errors: EBUSY, ENOTCONN (only by force now), and then nothing has
  /// changed. on_device_gone follows success.
  void unmap(bool force, std::move_only_function<void(Status)> done);

  using Sized = std::move_only_function<void(Result<std::uint64_t>)>;
  /// Asks the server how large the device is, and gives /dev/nbdX that size, whoever uses it.
  /// `done`: bytes. Errors: EBUSY (being mapped or unmapped), ENOTCONN (the server is away, and
  /// will be asked when it is back), the server's, the kernel's.
  void refresh(Sized done);

  /// If the server would not have it: asks again now. Errors: EBUSY (being mapped or unmapped),
  /// ENOTCONN (the server is away), and why it still does not have it.
  void remap(std::move_only_function<void(Status)> done);

  /// From now on, how long requests wait for a path; none: as long as it takes.
  void set_fail_after(std::optional<std::chrono::seconds> limit);

  /// What its queues have counted since they were made; nothing before and behind their lives.
  void count(std::move_only_function<void(const BlockQueueCounters&)> done);

  /// Under which it is kept: no other device of this daemon had it before.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] DeviceState state() const { return state_; }
  /// The kernel is giving it another size just now, and may wait for its requests.
  [[nodiscard]] bool telling_kernel() const { return telling_kernel_; }
  [[nodiscard]] RnbdSession& session() { return session_; }
  [[nodiscard]] const MapRequest& request() const { return request_; }
  [[nodiscard]] std::string node() const;  ///< "/dev/nbd0"; empty until attached
  [[nodiscard]] control::DeviceEntry entry() const;

 private:
  /// What becomes of a request that comes now.
  enum class Service : std::uint8_t {
    Open,      ///< it is sent
    Queueing,  ///< it waits for a path
    Failing,   ///< it fails: there has been no path for too long
    Closed,    ///< it fails: the server does not have the device
  };

  using Mapped = std::move_only_function<void(Result<std::string>)>;

  /// No server has this id: requests under it fail, which is all that a device can do that its
  /// server would not open again.
  static constexpr std::uint32_t kNoDevice = UINT32_MAX;

  void on_opened(const wire::OpenResponse& response, Mapped done);
  Result<std::vector<UniqueFd>> prepare(const DeviceShape& shape);
  Status keep_record();
  void forget();
  [[nodiscard]] BlockQueue::Config queue_config(const DeviceShape& shape) const;
  void attach(std::vector<UniqueFd> sockets, Mapped done);
  void on_attached(Result<std::uint32_t> index, Mapped done);
  void undo_map(Error error, Mapped done);
  using Unmapped = std::move_only_function<void(Status)>;
  void unmap_by_force(Unmapped done);
  void detach(bool force, Unmapped done);
  void on_detached(Status detached, Unmapped done);
  void take_apart(Executor::Task done);
  void become_gone();

  void on_session_lost(const std::string& why) override;
  void reopen(Executor::Task done) override;
  void on_session_changed() override;
  void on_server_changed() override;
  void ask_size();
  void on_size(const Result<wire::OpenResponse>& response);
  void lose_at_server(const Result<wire::OpenResponse>& opened);
  void change_size(std::uint64_t sectors);
  [[nodiscard]] wire::OpenResponse largest() const;
  [[nodiscard]] wire::OpenResponse latest() const;
  [[nodiscard]] bool can_resize() const;
  void tell_kernel(std::uint64_t sectors);
  void finish_refresh(const Result<std::uint64_t>& size);
  void on_reopened(const Result<wire::OpenResponse>& response, Executor::Task done);
  void set_service(Service service);
  void begin_patience(Duration passed);
  void catch_up_with_service();
  void tell(std::string_view state);
  static std::string_view name_of(Service service);

  // Workers' threads.
  void on_disconnect_request(BlockQueue& queue) override;
  void on_socket_ended(BlockQueue& queue, const Error& error) override;
  void on_slow_request(const SlowRequest& request) override;

  void log_slow(const SlowRequest& request);
  [[nodiscard]] NbdDeviceConfig nbd_config() const;
  [[nodiscard]] std::uint32_t max_request() const;

  RnbdSession& session_;
  ControlContext& control_;
  NbdDriver& nbd_;
  DescriptorKeeper& keeper_;
  const std::string name_;
  MapRequest request_;
  const Duration slow_io_;
  Events& events_;
  control::EventLog& log_;

  DeviceState state_ = DeviceState::Opening;
  wire::OpenResponse opened_;         ///< with as many sectors as the kernel was told
  std::uint64_t server_sectors_ = 0;  ///< as it last said
  std::uint64_t changing_to_ = 0;     ///< sectors, until the kernel has answered; 0: none
  bool inherited_ = false;            ///< what a predecessor told the kernel is not certain
  std::optional<DeviceFile> file_;
  std::size_t sockets_kept_ = 0;
  bool at_server_ = false;  ///< open there, under opened_.device_id
  std::unique_ptr<DeviceQueues> queues_;
  std::optional<std::uint32_t> index_;  ///< N of /dev/nbdN
  bool lost_on_the_way_ = false;
  std::string given_up_;           ///< why, if something was lost while it was being attached
  std::vector<Unmapped> forcing_;  ///< forced unmaps that wait for another one to fail
  bool refreshing_ = false;        ///< from the question to the kernel's answer
  bool telling_kernel_ = false;
  bool drained_ = false;          ///< for a successor
  bool asked_ = false;            ///< the question is on its way
  bool stale_size_ = false;       ///< another look is due
  std::vector<Sized> refreshed_;  ///< who waits for it
  Executor::Task after_answer_;   ///< the end of a device that has a question on its way
  std::unique_ptr<ControlContext::Timer> retry_;       ///< of an OPEN that the server refused
  std::unique_ptr<ControlContext::Timer> size_retry_;  ///< of a size that the kernel refused
  Service service_ = Service::Open;
  TimePoint since_ = Clock::now();
  std::unique_ptr<ControlContext::Timer> patience_;  ///< while queueing
  std::string last_error_;
  SlowIoLog slow_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>();  ///< for answers that may come too late
};

/// Whether what was opened again can take the place of what it was: with the same blocks and, where
/// both servers say which disk it is, the same disk; else as large at least. ENXIO says what
/// differs.
Status check_same_device(const wire::OpenResponse& before, const wire::OpenResponse& now);
/// The name that the kernel shows for the device.
std::string backend_of(const MapRequest& request);

/// What BlockQueue needs of OPEN_RSP. Errors: EPROTO, EINVAL (NBD cannot present such a device).
Result<DeviceShape> shape_of(const wire::OpenResponse& response);

}  // namespace rnbd::client
