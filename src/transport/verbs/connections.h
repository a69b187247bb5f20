// SPDX-License-Identifier: Apache-2.0
// All connections of a fabric, so that what is not a connection manager's event reaches them on the
// control thread too: a queue that broke under a worker's hands, a deadline, a device or a port
// that failed.
// Control thread, except for wake().
#pragma once

#include <functional>
#include <memory>
#include <set>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "transport/verbs/event_set.h"

namespace rnbd::transport::verbs {

class VerbsDevice;

/// One connection. May destroy itself or others in any of these calls.
class Connection {
 public:
  virtual ~Connection() = default;
  /// Somebody called wake(), or some connection's deadline has passed.
  virtual void on_check(TimePoint now) = 0;
  virtual void on_device_failed(const VerbsDevice& device) = 0;
  virtual void on_port_down(const VerbsDevice& device, int port) = 0;
  /// When on_check() shall be called at the latest; kNever if it need not.
  [[nodiscard]] virtual TimePoint deadline() const = 0;
};

class Connections final : public EventSource {
 public:
  /// Errors: those of eventfd(2), timerfd_create(2) and epoll_ctl(2).
  static Result<std::unique_ptr<Connections>> create(EventSet& events);

  void add(Connection& connection) { all_.insert(&connection); }
  void remove(Connection& connection) { all_.erase(&connection); }
  [[nodiscard]] bool empty() const { return all_.empty(); }

  /// Has every connection checked, soon, on the control thread. Any thread; does not block.
  void wake();

  /// A connection's deadline has changed.
  void reschedule();

  void device_failed(const VerbsDevice& device);
  void port_down(const VerbsDevice& device, int port);
  void link_up();
  void on_link_up(std::function<void()> call) { on_link_up_ = std::move(call); }

  void on_readable() override;

 private:
  Connections(UniqueFd wake, UniqueFd timer) : wake_(std::move(wake)), timer_(std::move(timer)) {}
  template <typename Call>
  void for_each(Call call);

  UniqueFd wake_;
  UniqueFd timer_;
  std::function<void()> on_link_up_;
  std::set<Connection*> all_;
};

}  // namespace rnbd::transport::verbs
