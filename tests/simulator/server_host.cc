// SPDX-License-Identifier: Apache-2.0
#include "simulator/server_host.h"

#include <sys/stat.h>
#include <sys/statfs.h>

#include "common/assert.h"

namespace rnbd::simulator {

struct ServerHost::Life {
  explicit Life(ServerHost& owner) {
    std::vector<server::StoreWorker> store_workers;
    for (std::size_t i = 0; i < workers.size(); ++i) {
      stores[i] =
          std::make_unique<ModelStore>(owner.world_, workers[i], owner.mood, owner.by_inode_);
      store_workers.push_back({&workers[i], stores[i].get()});
    }
    auto search_path = server::SearchPath::create(owner.directory_);
    RNBD_ASSERT(search_path);
    plane = std::make_unique<server::ControlPlane>(control, std::move(store_workers),
                                                   owner.habits_.settings, std::move(*search_path));
  }

  sim::ManualControl control;
  std::array<sim::ManualContext, 2> workers;
  std::array<std::unique_ptr<ModelStore>, 2> stores;
  std::unique_ptr<server::ControlPlane> plane;
};

ServerHost::ServerHost(World& world, sim::MemoryFabric& fabric,
                       const std::filesystem::path& directory, const ServerHabits& habits)
    : world_(world), host_(fabric.host("server")), directory_(directory), habits_(habits) {
  for (std::uint32_t i = 0; i < habits.disks; ++i) {
    disks_.emplace_back(fmt::format("disk{}", i), habits.sectors);
    histories_.emplace_back(i, habits.sectors);
  }
  for (std::uint32_t i = 0; i < habits.disks; ++i) {
    struct stat status{};
    const std::string file = directory / fmt::format("disk{}", i);
    RNBD_ASSERT(::stat(file.c_str(), &status) == 0);
    by_inode_[status.st_ino] = &disks_[i];
    std::filesystem::resize_file(file, habits.sectors * kSector);
  }
  struct statfs system{};
  RNBD_ASSERT(::statfs(directory.c_str(), &system) == 0);
  can_shrink_ = system.f_fsid.__val[0] != 0 || system.f_fsid.__val[1] != 0;
}

void ServerHost::resize(std::uint32_t disk, std::uint32_t sectors) {
  world_.note("disk{}: {} sectors", disk, sectors);
  histories_[disk].set_size(sectors);
  std::filesystem::resize_file(fmt::format("{}/disk{}", directory_, disk), sectors * kSector);
}

std::uint64_t ServerHost::size_bytes(const std::string& disk) const {
  return std::filesystem::file_size(directory_ + "/" + disk);
}

void ServerHost::start() {
  RNBD_ASSERT(life_ == nullptr);
  world_.note("server: starts");
  life_ = new Life(*this);  // NOLINT(*-owning-memory): it may end anywhere, and then stays
  for (sim::ManualContext* const context : contexts()) {
    context->advance(world_.now() - context->now());
  }
  const Status listening = life_->plane->listen(host_, 1234);
  RNBD_ASSERT(listening);
}

void ServerHost::kill(bool power) {
  if (life_ == nullptr) return;
  world_.note("server: {}", power ? "the power goes" : "is killed");
  for (const auto& store : life_->stores) store->die();
  host_.crash(power);
  life_ = nullptr;
  stopping_ = false;
  if (!power) return;
  for (ModelDisk& disk : disks_) disk.lose_power(world_);
  for (History& history : histories_) history.lose_power();
}

void ServerHost::restart() {
  if (!running()) return;
  stop([this] { start(); });
}

void ServerHost::stop(Executor::Task done) {
  world_.note("server: stops");
  stopping_ = true;
  life_->plane->stop([this, life = life_, done = std::move(done)]() mutable {
    if (life != life_) return;
    world_.note("server: has stopped, with {}", host_.holdings());
    if (const std::string left = host_.holdings(); left != "0 bytes, 0 windows") {
      world_.fail("the server has ended with {}", left);
    }
    // What is left of the process ends outside of its own calls.
    world_.after({}, [this, life, done = std::make_shared<Executor::Task>(std::move(done))] {
      if (life != life_) return;
      host_.crash(false);
      life_ = nullptr;
      stopping_ = false;
      (*done)();
    });
  });
}

std::size_t ServerHost::devices_open() const {
  return life_ == nullptr ? 0 : life_->plane->list()["devices"].size();
}

std::vector<sim::ManualContext*> ServerHost::contexts() const {
  if (life_ == nullptr) return {};
  return {&life_->control.context(), &life_->workers[0], &life_->workers[1]};
}

}  // namespace rnbd::simulator
