// SPDX-License-Identifier: Apache-2.0
// The client between its parts: which sessions there are, which devices are mapped, and what the
// commands ask for. Control thread; the daemon owns it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/blocking_pool.h"
#include "client/device.h"
#include "client/map_words.h"
#include "client/rnbd_session.h"
#include "common/control/server.h"
#include "common/control_context.h"
#include "transport/fabric.h"

namespace rnbd::client {

class ControlPlane final : private Device::Events {
 public:
  ControlPlane(transport::Fabric& fabric, ControlContext& control,
               std::vector<WorkerContext*> workers);

  void serve(control::ControlServer& commands);

  /// Unmaps everything, by force where it is in use or takes too long, and ends all sessions; then
  /// `done`.
  void stop(Executor::Task done);

 private:
  void map(const control::Json& args, control::Reply reply);
  void unmap(const control::Json& args, control::Reply reply);
  [[nodiscard]] control::Json list() const;
  void paths(const control::Json& args, control::Reply reply) const;
  void path(const control::Json& args, control::Reply reply);

  [[nodiscard]] Status check_not_mapped(const MapRequest& request) const;
  Result<RnbdSession*> find_or_start_session(const MapRequest& request);
  [[nodiscard]] RnbdSession* find_session(const std::string& name) const;
  [[nodiscard]] Device* find_device(const std::string& node) const;

  void on_device_gone(Device& device) override;
  void remove_device(Device& device);
  void end_session_if_unused(RnbdSession& session);
  void stop_device(Device& device);
  void force_all();
  void answer_leaving(const RnbdSession& session);
  void finish_stopping();

  transport::Fabric& fabric_;
  ControlContext& control_;
  std::vector<WorkerContext*> workers_;
  BlockingPool blocking_;
  std::vector<std::unique_ptr<RnbdSession>> sessions_;
  std::vector<std::unique_ptr<RnbdSession>> ending_;
  std::vector<std::unique_ptr<Device>> devices_;
  Executor::Task on_stopped_;
  std::unique_ptr<ControlContext::Timer> stop_patience_;

  struct Leaving {
    RnbdSession* session = nullptr;
    control::Reply reply;
  };
  std::vector<Leaving> leaving_;  ///< unmapped; answered once the session, if it ends, has ended
};

}  // namespace rnbd::client
