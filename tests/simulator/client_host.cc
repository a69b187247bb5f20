// SPDX-License-Identifier: Apache-2.0
#include "simulator/client_host.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/stat.h>

#include "common/assert.h"
#include "common/control/verbs.h"
#include "sim/command_table.h"

namespace rnbd::simulator {
namespace {

constexpr std::chrono::milliseconds kMapAgain{300};  ///< times the tempo,
constexpr std::chrono::seconds kMapSoon{20};         ///< and no later than this

std::uint32_t index_of(const std::string& node) {
  constexpr std::string_view kPrefix = "/dev/nbd";
  RNBD_ASSERT(node.starts_with(kPrefix));
  return static_cast<std::uint32_t>(std::stoul(node.substr(kPrefix.size())));
}

}  // namespace

struct ClientHost::Life {
  explicit Life(ClientHost& owner)
      : plane({.fabric = owner.host_,
               .control = control,
               .nbd = owner.nbd_,
               .keeper = owner.keeper_,
               .random =
                   [&world = owner.world_](std::span<std::byte> bytes) {
                     for (std::byte& one : bytes) one = static_cast<std::byte>(world.below(256));
                   },
               .workers = {&workers[0], &workers[1]}},
              [] {}) {}

  sim::ManualControl control;
  std::array<sim::ManualContext, 2> workers;
  sim::CommandTable commands;
  client::ControlPlane plane;
  bool leaving = false;
};

Status Keeper::keep(const std::string& name, int fd) {
  RNBD_ASSERT(!kept_.contains(name));
  kept_[name] = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  RNBD_ASSERT(kept_[name]);
  return {};
}

std::map<std::string, UniqueFd> Keeper::take_inherited() {
  std::map<std::string, UniqueFd> copies;
  for (const auto& [name, fd] : kept_) {
    copies[name] = UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    RNBD_ASSERT(copies[name]);
  }
  return copies;
}

ClientHost::ClientHost(World& world, sim::MemoryFabric& fabric, std::string name,
                       std::vector<std::string> words)
    : world_(world),
      host_(fabric.host(name)),
      name_(std::move(name)),
      words_(std::move(words)),
      nbd_(world) {
  nbd_.on_gone = [this](std::uint32_t index) { on_device_gone(index); };
}

void ClientHost::add(const std::string& disk, const std::string& access, History& history,
                     const UserHabits& habits) {
  auto mapping = std::make_unique<Mapping>();
  mapping->disk = disk;
  mapping->access = access;
  mapping->user =
      std::make_unique<DiskUser>(world_, fmt::format("{} on {}", disk, name_), history, habits);
  mapping->user->begin();
  mappings_.push_back(std::move(mapping));
}

bool ClientHost::all_sized(const std::function<std::uint64_t(const std::string&)>& size) const {
  return std::ranges::all_of(mappings_, [&](const auto& mapping) {
    const NbdDevice* const device = mapping->user->device();
    return device == nullptr || device->config().size_bytes == size(mapping->disk);
  });
}

void ClientHost::start() {
  RNBD_ASSERT(life_ == nullptr);
  world_.note("{}: starts, {} descriptors kept", name_, keeper_.size());
  life_ = new Life(*this);  // NOLINT(*-owning-memory): it may end anywhere, and then stays
  for (sim::ManualContext* const context : contexts()) {
    context->advance(world_.now() - context->now());
    context->leave_quiet_sockets_alone();
  }
  nbd_.serve(life_->control);
  if (Status resumed = life_->plane.resume(); !resumed) {
    world_.fail("{}: cannot go on: {}", name_, rnbd::describe(resumed.error()));
  }
  life_->plane.serve(life_->commands);
  for (const auto& mapping : mappings_) mapping->busy = false;
  look_after_mappings();
}

void ClientHost::kill(bool kept) {
  if (life_ == nullptr) return;
  world_.note("{}: is killed{}", name_, kept ? "" : ", and nothing is kept");
  host_.crash(false);
  life_ = nullptr;
  if (kept) return;
  keeper_.lose_everything();
  nbd_.lose_sockets();
}

void ClientHost::upgrade() {
  if (life_ == nullptr || std::exchange(life_->leaving, true)) return;
  world_.note("{}: is upgraded", name_);
  life_->plane.hand_over([this, life = life_] {
    world_.after({}, [this, life] {
      if (life != life_) return;
      kill(true);
      start();
    });
  });
}

void ClientHost::look_after_mappings() {
  Life* const life = life_;
  if (life == nullptr) return;
  for (const auto& mapping : mappings_) look_after(*mapping);
  world_.after(std::min<Duration>(kMapAgain * world_.tempo(), kMapSoon), [this, life] {
    if (life == life_) look_after_mappings();
  });
}

void ClientHost::look_after(Mapping& mapping) {
  const bool mapped = mapping.user->device() != nullptr;
  if (mapping.busy || mapped == wanted_) return;
  if (wanted_) {
    map(mapping);
  } else {
    unmap(mapping, false);
  }
}

void ClientHost::command(const char* verb, const control::Json& args,
                         std::function<void(const control::Outcome&)> done) {
  life_->commands.call(
      verb, args,
      control::Reply([this, life = life_, done = std::move(done)](const control::Outcome& outcome) {
        if (life == life_) done(outcome);
      }));
}

void ClientHost::map(Mapping& mapping) {
  std::vector<std::string> words = words_;
  words.push_back("device_path=" + mapping.disk);
  words.push_back("access_mode=" + mapping.access);
  mapping.busy = true;
  command(control::kMapVerb, control::map_args(words),
          [this, &mapping](const control::Outcome& outcome) {
            mapping.busy = false;
            if (!outcome) {
              world_.note("{}: map {}: {}", name_, mapping.disk, outcome.error().error.message);
              // The answer went to a life that did not live to see it.
              if (outcome.error().error.code == EEXIST) {
                mapping.user->set_device(nbd_.find("rnbd:" + name_ + "/" + mapping.disk));
              }
              return;
            }
            const std::uint32_t index = index_of(*control::read_map_result(*outcome));
            NbdDevice* const device = nbd_.find(index);
            if (device == nullptr) return world_.fail("{}: nbd{} is not there", name_, index);
            world_.note("{}: {} is nbd{}", name_, mapping.disk, index);
            mapping.user->set_device(device);
          });
}

void ClientHost::unmap_any(bool force) {
  if (life_ == nullptr || mappings_.empty()) return;
  Mapping& mapping = *mappings_[world_.below(static_cast<std::uint32_t>(mappings_.size()))];
  if (!mapping.busy && mapping.user->device() != nullptr) unmap(mapping, force);
}

void ClientHost::unmap(Mapping& mapping, bool force) {
  NbdDevice* const device = mapping.user->device();
  world_.note("{}: unmap {}{}", name_, mapping.disk, force ? " --force" : "");
  mapping.busy = true;
  device->in_use = mapping.user->under_way() > 0;
  if (force) mapping.user->expect_errors();
  command(control::kUnmapVerb,
          control::to_json(control::UnmapArgs{.device = fmt::format("/dev/nbd{}", device->index()),
                                              .force = force}),
          [this, &mapping](const control::Outcome& outcome) {
            mapping.busy = false;
            world_.note("{}: unmap {}: {}", name_, mapping.disk,
                        outcome ? "done" : outcome.error().error.message);
          });
}

void ClientHost::change_any_path(const std::vector<std::string>& server_addresses) {
  if (life_ == nullptr) return;
  constexpr std::array kActions = {"add", "remove", "reconnect", "disconnect", "drain", "policy"};
  const std::string action = kActions[world_.below(kActions.size())];
  constexpr std::array kPolicies = {"rr", "mi", "ml"};
  const std::string path =
      action == "policy"
          ? kPolicies[world_.below(kPolicies.size())]
          : server_addresses[world_.below(static_cast<std::uint32_t>(server_addresses.size()))];
  path_command(action, path);
}

void ClientHost::reconnect_paths(const std::vector<std::string>& server_addresses) {
  if (life_ == nullptr) return;
  for (const std::string& address : server_addresses) path_command("reconnect", address);
}

void ClientHost::path_command(const std::string& action, const std::string& path) {
  world_.note("{}: path {} {}", name_, action, path);
  command(control::kPathVerb,
          control::to_json(control::PathArgs{
              .action = action, .session = name_, .path = path, .port = 1234, .force = false}),
          [this, action](const control::Outcome& outcome) {
            world_.note("{}: path {}: {}", name_, action,
                        outcome ? "done" : outcome.error().error.message);
          });
}

void ClientHost::unmap_all() {
  wanted_ = false;
  if (life_ == nullptr) return;
  for (const auto& mapping : mappings_) look_after(*mapping);
}

void ClientHost::on_device_gone(std::uint32_t index) {
  const NbdDevice* const device = nbd_.find(index);
  for (const auto& mapping : mappings_) {
    if (mapping->user->device() == device) mapping->user->set_device(nullptr);
  }
}

bool ClientHost::pump() {
  if (!nbd_.pump()) return false;
  for (sim::ManualContext* const context : contexts()) context->stir_sockets();
  return true;
}

void ClientHost::stir() {
  nbd_.stir();
  for (sim::ManualContext* const context : contexts()) context->stir_sockets();
}

bool ClientHost::run(const std::function<bool(const sim::ManualContext&)>& turn) {
  bool busy = false;
  bool sockets_used = false;
  for (sim::ManualContext* const context : contexts()) {
    if (turn(*context)) busy |= context->run_once();
    sockets_used |= context->take_socket_use();
  }
  if (sockets_used) nbd_.stir();
  return busy;
}

std::vector<sim::ManualContext*> ClientHost::contexts() const {
  if (life_ == nullptr) return {};
  return {&life_->control.context(), &life_->workers[0], &life_->workers[1]};
}

std::vector<DiskUser*> ClientHost::users() const {
  std::vector<DiskUser*> users;
  for (const auto& mapping : mappings_) users.push_back(mapping->user.get());
  return users;
}

bool ClientHost::all_mapped() const {
  return std::ranges::all_of(mappings_,
                             [](const auto& one) { return one->user->device() != nullptr; });
}

std::string ClientHost::describe() {
  if (life_ == nullptr) return name_ + ": not running";
  std::string text = name_;
  for (const char* const verb : {control::kListVerb, control::kPathsVerb}) {
    command(verb, control::Json::object(), [&](const control::Outcome& outcome) {
      text += "\n  " + (outcome ? outcome->dump() : outcome.error().error.message);
    });
  }
  return text;
}

}  // namespace rnbd::simulator
