// SPDX-License-Identifier: Apache-2.0
// A disk with a volatile cache, and the stores of one server's workers that execute on it: slowly,
// in any order, sometimes with an error, and cut short when the server dies. One thread.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "common/executor.h"
#include "server/block_store.h"
#include "simulator/history.h"
#include "simulator/world.h"

namespace rnbd::simulator {

class ModelDisk {
 public:
  ModelDisk(std::string name, std::uint32_t sectors)
      : name_(std::move(name)), current_(sectors * kSector), durable_(sectors * kSector) {}

  /// One sector of an operation.
  void execute(const server::StoreOperation& operation, std::uint32_t sector, bool through);
  void flush() { durable_ = current_; }

  /// Of each sector that was not flushed either what was there before or what is there now stays.
  void lose_power(World& world);

  [[nodiscard]] std::span<const std::byte> contents() const { return current_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::vector<std::byte> current_;
  std::vector<std::byte> durable_;
};

/// How the disks of a server behave at the moment.
struct DiskMood {
  Duration slowest = std::chrono::milliseconds(2);
  std::uint32_t fails_one_in = 0;  ///< operations; 0: none
  bool stuck = false;              ///< nothing ends until this changes
};

/// One worker's store in one life of a server.
class ModelStore final : public server::BlockStore {
 public:
  /// `disks`: by inode of the file that a server opens.
  ModelStore(World& world, Executor& worker, const DiskMood& mood,
             std::map<ino_t, ModelDisk*> disks)
      : world_(world), worker_(worker), mood_(mood), disks_(std::move(disks)) {}

  void submit(const server::StoreOperation& operation, const server::StoreTarget& target,
              server::StoreClient& client) override;
  int register_file(int fd) override;
  void unregister_file(int slot) override { slots_[static_cast<std::size_t>(slot)] = nullptr; }

  /// The server dies: of what is under way each sector happens, or does not, and nobody is told.
  void die();

  [[nodiscard]] std::size_t in_flight() const { return under_way_.size(); }

 private:
  struct UnderWay {
    server::StoreOperation operation;
    ModelDisk* disk = nullptr;
    bool through = false;
    server::StoreClient* client = nullptr;
    bool executed = false;
    int error = 0;
  };
  using Place = std::list<UnderWay>::iterator;

  void execute(Place place);
  void end(Place place);

  World& world_;
  Executor& worker_;
  const DiskMood& mood_;
  const std::map<ino_t, ModelDisk*> disks_;
  std::vector<ModelDisk*> slots_;
  std::list<UnderWay> under_way_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace rnbd::simulator
