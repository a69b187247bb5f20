// SPDX-License-Identifier: Apache-2.0
// The client between its parts: which sessions there are, which devices are mapped, and what the
// commands ask for. Control thread; the daemon owns it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/descriptor_keeper.h"
#include "client/device.h"
#include "client/discovery.h"
#include "client/left_behind.h"
#include "client/map_words.h"
#include "client/metrics.h"
#include "client/nbd_driver.h"
#include "client/persistent_mappings.h"
#include "client/random.h"
#include "client/rnbd_session.h"
#include "common/control/event_log.h"
#include "common/control/server.h"
#include "common/control/state_file.h"
#include "common/control/stats_reset.h"
#include "common/control_context.h"
#include "transport/fabric.h"

namespace rnbd::client {

/// What a client stands on. All of it outlives the control plane.
struct Ground {
  transport::Fabric& fabric;
  ControlContext& control;
  NbdDriver& nbd;
  DescriptorKeeper& keeper;
  RandomSource random;
  std::vector<WorkerContext*> workers;
  Duration slow_io = Duration::max();  ///< requests that take so long are logged
};

class ControlPlane final : private Device::Events {
 public:
  /// `leave` is asked for by `upgrade`: hand over and end.
  ControlPlane(Ground ground, std::function<void()> leave);

  void serve(control::Commands& commands);

  /// Goes on with the devices that a process before this one left. Before serve(). Errors: EPROTO:
  /// they are another version's, and nothing has been touched.
  Status resume();

  [[nodiscard]] bool has_devices() const { return !devices_.empty(); }

  /// What mappings to come have that do not say otherwise.
  void set_defaults(MapDefaults defaults) { defaults_ = std::move(defaults); }

  /// Has `state` keep what is mapped with persist=yes, and maps again what it kept and resume() has
  /// not found, in the background, for as long as it takes. `state` outlives the control plane.
  void remember_in(control::StateFile& state);

  /// Brings all devices to rest, between two requests, for a process after this one; then `done`,
  /// and the process ends without taking anything apart. What cannot be answered in time, its
  /// server is away perhaps, is left as it is: the successor goes on with it.
  void hand_over(Executor::Task done);

  /// Unmaps everything, by force where it is in use or takes too long, and ends all sessions; then
  /// `done`.
  void stop(Executor::Task done);

  /// What there is to tell, for metrics.
  void observe(std::move_only_function<void(Observation)> done);

 private:
  void map(const control::Json& args, control::Reply reply);
  void unmap(const control::Json& args, control::Reply reply);
  void resize(const control::Json& args, control::Reply reply);
  void stats(control::Reply reply);
  void reset(const control::Json& args, control::Reply reply);
  Status reset_paths(const control::ResetArgs& which);
  void remap(const control::Json& args, control::Reply reply);
  void set(const control::Json& args, control::Reply reply);
  void change_session(RnbdSession& session, const SessionWords& change);
  void discover(const control::Json& args, control::Reply reply);
  [[nodiscard]] control::Json snapshot() const;
  using Counted = std::move_only_function<void(std::vector<control::DeviceStats>)>;
  void count(Counted done);
  [[nodiscard]] control::Json list() const;
  void paths(const control::Json& args, control::Reply reply) const;
  void path(const control::Json& args, control::Reply reply);
  void upgrade(const control::Json& args, control::Reply reply);

  using Mapped = std::move_only_function<void(Result<std::string>)>;
  /// `attempts`: how often it has failed in a way that passes: its server was lost meanwhile, or
  /// the kernel took it and did not read all of its sockets.
  void begin_map(const MapRequest& request, Mapped done, unsigned attempts = 0);
  void map_anew(Device& device, Mapped done, unsigned attempts);
  /// Errors: kBeingReplaced, ESHUTDOWN.
  [[nodiscard]] Status may_begin() const;

  /// A mapping that shall come back.
  struct Restoring {
    std::string session;
    std::string device_path;
    Duration pause{};
    unsigned attempts = 0;
    bool asks_for_node = false;  ///< that it had before
    bool node_is_taken = false;  ///< so another one will do
    std::string last_error;
    std::unique_ptr<ControlContext::Timer> next_attempt;
  };
  void restore_all();
  void try_later(Restoring& one, Duration pause);
  void try_to_restore(Restoring& one);
  void on_restored(const std::string& session, const std::string& device_path,
                   const Result<std::string>& node);
  void restore_again(Restoring& one, const Error& why);
  void stop_restoring(const std::string& session, const std::string& device_path);
  [[nodiscard]] Device* find_mapped(const std::string& session,
                                    const std::string& device_path) const;
  [[nodiscard]] Status can_remember() const;
  void remember(const std::vector<std::string>& words, const MapRequest& request,
                const std::string& node, control::Reply reply);
  control::Reply forget_mapping(const std::string& session, const std::string& device_path,
                                control::Reply reply);
  bool forget_waiting(const std::string& name, control::Reply& reply);
  void on_loaded();
  void remember_change(std::vector<std::string> sessions, std::vector<std::string> words,
                       control::Reply reply);
  [[nodiscard]] control::Json list_waiting() const;

  void resume_session(std::vector<LeftDevice> devices, UniqueFd memory);
  Status resume_device(RnbdSession& session, LeftDevice& left);
  void give_up(LeftDevice& device, const Error& why);
  void clear_away(LeftDevice& device);
  void on_cleared(const Status& gone);
  void let_waiting_go();
  rtrs::SessionCore::MakeMemory kept_memory(const std::string& name);
  void drain_all(unsigned looks);
  void finish_handing_over();

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
  NbdDriver& nbd_;
  DescriptorKeeper& keeper_;
  RandomSource random_;
  std::vector<WorkerContext*> workers_;
  const Duration slow_io_;
  std::function<void()> leave_;
  MapDefaults defaults_;
  control::StateFile* state_ = nullptr;
  bool loading_ = false;                  ///< what state_ holds is not known yet
  std::vector<Executor::Task> deferred_;  ///< commands that have to know
  /// What was done meanwhile to the mappings it may hold; true if it holds another one then.
  std::vector<std::function<bool()>> amendments_;
  std::size_t clearing_ = 0;                     ///< leftovers that the kernel still has, perhaps
  std::vector<Executor::Task> behind_clearing_;  ///< mappings that could be taken for one
  PersistentMappings persistent_;
  std::vector<std::unique_ptr<Restoring>> restoring_;
  unsigned last_number_ = 0;  ///< in the names of what is kept
  control::StatsMarks marks_;
  control::EventLog events_;
  std::vector<std::unique_ptr<RnbdSession>> sessions_;
  std::vector<std::unique_ptr<RnbdSession>> ending_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::vector<RnbdSession*> mapping_anew_;  ///< kept for a device that is to come, one each
  std::map<unsigned, std::unique_ptr<Discovery>> discoveries_;
  Executor::Task on_stopped_;
  std::unique_ptr<ControlContext::Timer> stop_patience_;
  Executor::Task on_handed_over_;
  std::unique_ptr<ControlContext::Timer> hand_over_patience_;
  std::unique_ptr<ControlContext::Timer> look_again_;

  struct Leaving {
    RnbdSession* session = nullptr;
    control::Reply reply;
  };
  std::vector<Leaving> leaving_;  ///< unmapped; answered once the session, if it ends, has ended
};

}  // namespace rnbd::client
