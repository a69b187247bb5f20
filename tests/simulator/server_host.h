// SPDX-License-Identifier: Apache-2.0
// The server's host: its disks, and one life of the server's program after another. A life that
// ends is left where it stands, as a killed process leaves nothing behind it tidied up. One thread.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "server/control_plane.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "simulator/history.h"
#include "simulator/model_disk.h"
#include "simulator/world.h"

namespace rnbd::simulator {

struct ServerHabits {
  rtrs::AcceptorSettings settings;
  std::uint32_t disks = 2;
  std::uint32_t sectors = 256;  ///< of each disk, at most
};

class ServerHost {
 public:
  /// `directory`: of files disk0, disk1, …, of which only the sizes matter.
  ServerHost(World& world, sim::MemoryFabric& fabric, const std::filesystem::path& directory,
             const ServerHabits& habits);

  void start();
  /// SIGKILL; `power`: to the whole host.
  void kill(bool power);
  /// A clean stop, then a start.
  void restart();
  [[nodiscard]] bool running() const { return life_ != nullptr && !stopping_; }
  /// A clean stop for ever; `done` when it has ended.
  void stop(Executor::Task done);

  [[nodiscard]] std::vector<sim::ManualContext*> contexts() const;
  /// By all clients together; none while it does not run.
  [[nodiscard]] std::size_t devices_open() const;
  /// A disk grows or shrinks. What lies behind its end stays, for when it grows again.
  void resize(std::uint32_t disk, std::uint32_t sectors);
  [[nodiscard]] std::uint64_t size_bytes(const std::string& disk) const;
  /// Disks have marks here, by which a shrunk one can be told from another one.
  [[nodiscard]] bool can_shrink() const { return can_shrink_; }
  [[nodiscard]] History& history(std::size_t disk) { return histories_[disk]; }
  [[nodiscard]] const ModelDisk& disk(std::size_t number) const { return disks_[number]; }
  [[nodiscard]] sim::MemoryHost& host() { return host_; }
  DiskMood mood;

 private:
  struct Life;

  World& world_;
  sim::MemoryHost& host_;
  const std::string directory_;
  const ServerHabits habits_;
  std::vector<ModelDisk> disks_;
  std::vector<History> histories_;
  std::map<ino_t, ModelDisk*> by_inode_;
  Life* life_ = nullptr;
  bool stopping_ = false;
  bool can_shrink_ = false;
};

}  // namespace rnbd::simulator
