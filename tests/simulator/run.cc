// SPDX-License-Identifier: Apache-2.0
#include "simulator/run.h"

#include <algorithm>
#include <fstream>

#include "common/assert.h"

namespace rnbd::simulator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kMostRounds = 2'000'000;  ///< in which no time passes
constexpr seconds kPatience{150};                 ///< for everything to end once all is healed

/// Where all is slow heartbeats are too: up to 1 s those that are quick, and up to the kernel's 5 s
/// the others.
std::chrono::milliseconds heartbeat_interval(const World& world,
                                             std::chrono::milliseconds quickest) {
  return quickest * std::min(world.tempo(), quickest < milliseconds(1000) ? 10U : 5U);
}

ServerHabits draw_server(World& world) {
  ServerHabits habits;
  habits.settings.parameters = {.queue_depth = 4 + world.below(29),
                                .max_io_size = 4096U << world.below(3),
                                .max_header_size = 4096,
                                .new_key = !world.one_in(3)};
  habits.settings.limits = rtrs::ClientLimits::of_memory(std::uint64_t{1} << 30);
  habits.settings.heartbeat.interval =
      heartbeat_interval(world, milliseconds(world.one_in(3) ? 1000 : 100));
  habits.disks = kDisks;
  habits.sectors = kDiskSectors;
  return habits;
}

}  // namespace

void make_disk_files(const std::filesystem::path& directory) {
  for (std::uint32_t i = 0; i < kDisks; ++i) {
    const auto file = directory / fmt::format("disk{}", i);
    std::ofstream(file).close();
    std::filesystem::resize_file(file, kDiskSectors * kSector);
  }
}

Run::Run(const RunOptions& options)
    : options_(options),
      world_(options.seed, options.follow),
      fabric_({.seed = options.seed | (std::uint64_t{1} << 63), .adapters = 2}) {
  world_.set_tempo(options.tempo);
  server_ = std::make_unique<ServerHost>(world_, fabric_, options.directory, draw_server(world_));
  intruder_ = std::make_unique<Intruder>(world_, fabric_, server_address(0));
  add_clients();
  draw_faults();
}

void Run::add_clients() {
  const std::uint32_t count = 1 + world_.below(3);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("client{}", i);
    std::vector<std::string> words = {"sessname=" + name, "path=" + server_address(0)};
    if (!world_.one_in(3)) words.push_back("path=" + server_address(1));
    if (world_.one_in(2)) words.push_back("input_mode=rq");
    constexpr std::array kPolicies = {"rr", "mi", "ml"};
    words.push_back(fmt::format("mpath_policy={}", kPolicies[world_.below(kPolicies.size())]));
    const milliseconds heartbeat(world_.one_in(3) ? 1000 : 100);
    words.push_back(
        fmt::format("hb_interval_ms={}", heartbeat_interval(world_, heartbeat).count()));
    clients_.push_back(std::make_unique<ClientHost>(world_, fabric_, name, std::move(words)));
  }
  for (std::uint32_t disk = 0; disk < kDisks; ++disk) {
    UserHabits habits{.writes = true,
                      .depth = 1 + world_.below(24),
                      .most_sectors = 1 + world_.below(64),
                      .pause = milliseconds(100 << world_.below(9))};
    const std::string name = fmt::format("disk{}", disk);
    const std::uint32_t writer = world_.below(count);
    clients_[writer]->add(name, "rw", server_->history(disk), habits);
    const std::uint32_t reader = world_.below(count);
    if (reader == writer) continue;
    habits.writes = false;
    clients_[reader]->add(name, "ro", server_->history(disk), habits);
  }
  client_paused_.resize(count);
}

RunResult Run::go() {
  server_->start();
  for (const auto& client : clients_) client->start();
  schedule_fault();
  turn_until(world_.now() + options_.length);
  if (!world_.failure()) finish();
  RunResult result{.passed = !world_.failure(),
                   .why = world_.failure().value_or(""),
                   .answered = 0,
                   .faults = faults_};
  for (const auto& client : clients_) {
    for (const DiskUser* const user : client->users()) result.answered += user->answered();
  }
  if (!result.passed && !options_.follow) {
    for (const std::string& line : world_.record()) fmt::print(stderr, "{}\n", line);
  }
  return result;
}

void Run::turn_until(TimePoint end) {
  while (!world_.failure() && world_.now() < end) {
    if (!round(false) && !round(true)) pass_time(end);
  }
}

bool Run::turn_until_or_fail(const std::function<bool()>& done, Duration patience,
                             const char* what) {
  const TimePoint end = world_.now() + patience;
  while (!world_.failure() && !done()) {
    if (world_.now() >= end) {
      fail_with_state(what);
      return false;
    }
    if (!round(false) && !round(true)) pass_time(end);
  }
  return !world_.failure();
}

/// False: nobody had anything to do.
bool Run::round(bool everybody) {
  bool busy = world_.run_events();
  if (busy) {
    for (const auto& client : clients_) client->stir();
  }
  for (std::uint32_t i = world_.below(8) + (everybody ? 1 : 0); i > 0; --i) busy |= fabric_.step();
  busy |= run_contexts(everybody);
  for (const auto& client : clients_) {
    if (everybody || world_.one_in(2)) busy |= client->pump();
  }
  if (everybody || world_.one_in(2)) busy |= intruder_->poll();
  if (busy && ++rounds_without_time_ > kMostRounds) fail_with_state("something spins");
  return busy;
}

bool Run::run_contexts(bool everybody) {
  bool busy = false;
  const auto turn = [&](const sim::ManualContext& context) {
    return !stalled_.contains(&context) && (everybody || !world_.one_in(3));
  };
  if (!server_paused_) {
    for (sim::ManualContext* const context : server_->contexts()) {
      if (turn(*context)) busy |= context->run_once();
    }
  }
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    if (!client_paused_[i]) busy |= clients_[i]->run(turn);
  }
  return busy;
}

TimePoint Run::next_deadline() const {
  TimePoint next = world_.next_event();
  const auto look = [&](const std::vector<sim::ManualContext*>& contexts) {
    for (const sim::ManualContext* const context : contexts) {
      if (!stalled_.contains(context)) next = std::min(next, context->next_deadline());
    }
  };
  if (!server_paused_) look(server_->contexts());
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    if (!client_paused_[i]) look(clients_[i]->contexts());
  }
  return next;
}

void Run::pass_time(TimePoint limit) {
  const TimePoint then = std::max(std::min(next_deadline(), limit), world_.now());
  const Duration passed = then - world_.now();
  world_.advance_to(then);
  for (sim::ManualContext* const context : server_->contexts()) context->advance(passed);
  for (const auto& client : clients_) {
    for (sim::ManualContext* const context : client->contexts()) context->advance(passed);
  }
  rounds_without_time_ = 0;
}

void Run::finish() {
  world_.note("everything is healed; {} packets were late", fabric_.late_arrivals());
  faults_on_ = false;
  heal_everything();
  const auto users_idle = [&] {
    return std::ranges::all_of(clients_, [](const auto& client) {
      return std::ranges::all_of(client->users(),
                                 [](const DiskUser* user) { return user->under_way() == 0; });
    });
  };
  const auto all_mapped = [&] {
    return std::ranges::all_of(clients_, [](const auto& client) { return client->all_mapped(); });
  };
  const Duration all_started = kPatience * world_.tempo();
  if (!turn_until_or_fail([&] { return all_run(); }, all_started, "not everybody runs")) return;
  for (const auto& client : clients_) {
    client->reconnect_paths({server_address(0), server_address(1)});
  }
  if (!turn_until_or_fail(all_mapped, kPatience, "not everything is mapped again")) return;
  for (const auto& client : clients_) {
    for (DiskUser* const user : client->users()) user->rest();
  }
  // A last unmap may still have been under way.
  const auto rested = [&] { return users_idle() && all_mapped(); };
  if (!turn_until_or_fail(rested, kPatience, "requests do not end")) return;
  // Nothing but the server's word tells of these.
  for (std::uint32_t i = 0; i < kDisks; ++i) resize_disk();
  const auto sized = [&] { return all_have_their_size(); };
  if (!turn_until_or_fail(sized, kPatience, "a device has not the size of its disk")) return;
  for (const auto& client : clients_) {
    for (DiskUser* const user : client->users()) {
      user->errors_are_fine = false;
      user->read_all();
    }
  }
  if (!turn_until_or_fail(users_idle, kPatience, "reads do not end")) return;
  const auto as_mapped = [&] { return opened_as_mapped(); };
  if (!turn_until_or_fail(as_mapped, kPatience, "the server has other devices open")) return;
  for (const auto& client : clients_) client->unmap_all();
  const auto all_unmapped = [&] {
    return std::ranges::all_of(clients_,
                               [](const auto& client) { return client->nothing_mapped(); });
  };
  if (!turn_until_or_fail(all_unmapped, kPatience, "unmapping does not end")) return;
  const auto all_quiet = [&] { return fabric_.endpoints() == 0; };
  if (!turn_until_or_fail(all_quiet, kPatience, "connections are left")) return;
  check_what_is_left();
  bool stopped = false;
  server_->stop([&stopped] { stopped = true; });
  turn_until_or_fail([&] { return stopped; }, kPatience, "the server does not stop");
}

bool Run::all_run() const {
  return server_->running() &&
         std::ranges::all_of(clients_, [](const auto& client) { return client->running(); });
}

bool Run::all_have_their_size() const {
  return std::ranges::all_of(clients_, [this](const auto& client) {
    return client->all_sized([this](const std::string& disk) { return server_->size_bytes(disk); });
  });
}

bool Run::opened_as_mapped() const {
  std::size_t mapped = 0;
  for (const auto& client : clients_) mapped += client->users().size();
  return server_->devices_open() == mapped;
}

void Run::check_what_is_left() {
  turn_until(world_.now() + seconds(5));
  for (const auto& client : clients_) {
    if (const std::string left = client->host().holdings(); left != "0 bytes, 0 windows") {
      world_.fail("{} holds {}", client->name(), left);
    }
    if (client->kept() != 0)
      world_.fail("{} has {} descriptors kept", client->name(), client->kept());
  }
  if (const std::string left = server_->host().holdings(); left != "0 bytes, 0 windows") {
    world_.fail("the server holds {}", left);
  }
  if (fabric_.changed_sources() != 0) world_.fail("memory was changed while it was being sent");
}

void Run::fail_with_state(const std::string& why) {
  std::string state;
  for (const auto& client : clients_) state += "\n" + client->describe();
  world_.fail("{}{}", why, state);
}

ClientHost& Run::any_client() {
  return *clients_[world_.below(static_cast<std::uint32_t>(clients_.size()))];
}

std::string Run::server_address(std::size_t adapter) { return server_->host().address(adapter); }

}  // namespace rnbd::simulator
