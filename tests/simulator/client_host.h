// SPDX-License-Identifier: Apache-2.0
// A client's host: its kernel, whoever uses the disks, and one life of the client's daemon after
// another, each from the control plane down to the last byte the code that real daemons run. A life
// that ends is left where it stands. One thread.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/control_plane.h"
#include "common/control/server.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "simulator/disk_user.h"
#include "simulator/nbd_kernel.h"
#include "simulator/world.h"

namespace rnbd::simulator {

/// Keeps what a daemon asks it to keep, as systemd does.
class Keeper final : public client::DescriptorKeeper {
 public:
  [[nodiscard]] bool has_keeper() const override { return true; }
  Status keep(const std::string& name, int fd) override;
  void forget(const std::string& name) override { kept_.erase(name); }
  std::map<std::string, UniqueFd> take_inherited() override;
  [[nodiscard]] std::size_t size() const { return kept_.size(); }
  void lose_everything() { kept_.clear(); }

 private:
  std::map<std::string, UniqueFd> kept_;
};

class ClientHost {
 public:
  /// `words`: of every mapping, without device_path and access_mode.
  ClientHost(World& world, sim::MemoryFabric& fabric, std::string name,
             std::vector<std::string> words);

  /// A disk that it shall have mapped from now on.
  void add(const std::string& disk, const std::string& access, History& history,
           const UserHabits& habits);

  void start();
  /// SIGKILL; `kept`: its descriptors and its journals are there for the next life.
  void kill(bool kept);
  /// The daemon hands over to its next life.
  void upgrade();
  [[nodiscard]] bool running() const { return life_ != nullptr; }

  /// An unmap of one of its disks; it is mapped again later.
  void unmap_any(bool force);
  /// Something an administrator does with a path of it.
  void change_any_path(const std::vector<std::string>& server_addresses);
  /// Connects every path again that somebody has disconnected.
  void reconnect_paths(const std::vector<std::string>& server_addresses);
  /// No disk is to be mapped any more; unmaps all that are.
  void unmap_all();

  /// Moves bytes between kernel and daemon.
  bool pump();
  /// What happens meanwhile may concern any socket of either.
  void stir();
  /// Lets each thread of the daemon take a round, if `turn` says so; false if none did anything.
  bool run(const std::function<bool(const sim::ManualContext&)>& turn);

  [[nodiscard]] std::vector<sim::ManualContext*> contexts() const;
  [[nodiscard]] sim::MemoryHost& host() { return host_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::vector<DiskUser*> users() const;
  [[nodiscard]] bool all_mapped() const;
  /// Every device that is mapped has so many bytes as `size` says of its disk.
  [[nodiscard]] bool all_sized(const std::function<std::uint64_t(const std::string&)>& size) const;
  [[nodiscard]] bool nothing_mapped() const { return nbd_.devices() == 0; }
  [[nodiscard]] std::size_t kept() const { return keeper_.size(); }
  /// What its daemon says of its paths and devices, for a person.
  [[nodiscard]] std::string describe();

 private:
  struct Life;
  struct Mapping {
    std::string disk;
    std::string access;
    std::unique_ptr<DiskUser> user;
    bool busy = false;  ///< a command for it is under way
  };

  void look_after_mappings();
  void look_after(Mapping& mapping);
  void map(Mapping& mapping);
  void unmap(Mapping& mapping, bool force);
  void path_command(const std::string& action, const std::string& path);
  void command(const char* verb, const control::Json& args,
               std::function<void(const control::Outcome&)> done);
  void on_device_gone(std::uint32_t index);
  [[nodiscard]] Mapping* mapping_of(const NbdDevice& device);

  World& world_;
  sim::MemoryHost& host_;
  const std::string name_;
  const std::vector<std::string> words_;
  NbdKernel nbd_;
  Keeper keeper_;
  std::vector<std::unique_ptr<Mapping>> mappings_;
  Life* life_ = nullptr;
  bool wanted_ = true;
};

}  // namespace rnbd::simulator
