// SPDX-License-Identifier: Apache-2.0
// Run, second part: what befalls the hosts. Each run draws which kinds of faults it has at all, so
// that some have one kind only, and others everything at once.
#include <algorithm>

#include "simulator/run.h"

namespace rnbd::simulator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

}  // namespace

void Run::draw_faults() {
  constexpr std::array kFaults = {
      &Run::cut_line,        &Run::break_line,         &Run::refuse_connections, &Run::kill_server,
      &Run::cut_power,       &Run::restart_server,     &Run::kill_client,        &Run::lose_client,
      &Run::upgrade_client,  &Run::pause_somebody,     &Run::slow_disks,         &Run::stick_disks,
      &Run::failing_disks,   &Run::unmap_something,    &Run::change_path,        &Run::stall_thread,
      &Run::strand_packets,  &Run::strand_predecessor, &Run::shake_server,       &Run::lose_one_way,
      &Run::let_intruder_in, &Run::resize_disk,        &Run::still_connection};
  for (const Fault fault : kFaults) {
    if (world_.one_in(3)) chances_.push_back({fault, 1 + world_.below(8)});
  }
  fault_pause_ = milliseconds(200 << world_.below(7));
}

void Run::schedule_fault() {
  world_.after(world_.some_while(fault_pause_) + milliseconds(1), [this] {
    if (!faults_on_) return;
    std::uint32_t sum = 0;
    for (const Chance& chance : chances_) sum += chance.weight;
    std::uint32_t drawn = sum == 0 ? 0 : world_.below(sum);
    for (const Chance& chance : chances_) {
      if (drawn < chance.weight) {
        ++faults_;
        (this->*chance.fault)();
        break;
      }
      drawn -= chance.weight;
    }
    schedule_fault();
  });
}

void Run::cut_line() {
  cut(any_client(), world_.below(2), world_.some_while(seconds(12)), milliseconds(0));
}

/// What goes one way is lost, and what goes the other way arrives without an answer.
void Run::lose_one_way() {
  const Ways ways = world_.one_in(2) ? Ways::ToServer : Ways::ToClient;
  cut(any_client(), world_.below(2), world_.some_while(seconds(12)), milliseconds(0), ways);
}

/// What was sent before the client gave the line up arrives while the disk still has what was sent
/// instead.
void Run::strand_packets() {
  slow_disks_down(milliseconds(500 << world_.below(3)), seconds(6));
  cut(any_client(), world_.below(2), milliseconds(550 + world_.below(2000)), seconds(3));
}

/// The same, and whoever has sent it is dead.
void Run::strand_predecessor() {
  ClientHost& client = any_client();
  slow_disks_down(milliseconds(500 << world_.below(3)), seconds(6));
  cut(client, world_.below(2), milliseconds(50 + world_.below(2000)), seconds(3));
  world_.after(milliseconds(20 + world_.below(500)), [this, &client] {
    if (!client.running()) return;
    client.kill(true);
    world_.after(world_.some_time(milliseconds(100)), [&client] { client.start(); });
  });
}

/// `silence`: what the server has sent does not run out of retries so long.
void Run::cut(ClientHost& client, std::size_t adapter, Duration length, Duration silence,
              Ways ways) {
  const std::string near = client.host().address(adapter);
  const std::string far = server_address(adapter);
  if (fabric_.is_cut(near, far)) return;
  constexpr std::array kWays = {"", " to the server", " to the client"};
  world_.note("{}: line {} is cut{}", client.name(), adapter, kWays[static_cast<unsigned>(ways)]);
  if (ways != Ways::ToClient) fabric_.cut_one_way(near, far);
  if (ways != Ways::ToServer) fabric_.cut_one_way(far, near);
  run_out_of_retries(near, far, {}, length);
  run_out_of_retries(far, near, silence, length);
  world_.after(length, [this, &client, adapter, near, far] {
    world_.note("{}: line {} is healed", client.name(), adapter);
    fabric_.heal(near, far);
    if (world_.one_in(2) && client.running()) client.host().tell_link_up();
  });
}

/// Half a second behind what an adapter has sent, which may be a while after the cut.
void Run::run_out_of_retries(const std::string& near, const std::string& far, Duration from,
                             Duration to) {
  for (Duration at = from + milliseconds(500 * (1 + world_.below(4))); at < to;
       at += milliseconds(1500)) {
    world_.after(at, [this, near, far] {
      if (fabric_.is_cut(near, far)) fabric_.run_out_of_retries_at(near, far);
    });
  }
}

void Run::break_line() {
  ClientHost& client = any_client();
  const std::size_t adapter = world_.below(2);
  world_.note("{}: connections on line {} break", client.name(), adapter);
  fabric_.break_connections(client.host().address(adapter), server_address(adapter));
}

/// What one connection posts is never done, and nobody is told; the others of the path go on.
void Run::still_connection() {
  ClientHost& client = any_client();
  const std::size_t adapter = world_.below(2);
  const bool servers = world_.one_in(2);
  world_.note("{}: a connection on line {} stands still, {}", client.name(), adapter,
              servers ? "the server's" : "the client's");
  const std::string near = client.host().address(adapter);
  const std::string far = server_address(adapter);
  fabric_.stand_still(servers ? far : near, servers ? near : far);
}

void Run::refuse_connections() { fabric_.refuse_connects(1 + world_.below(4)); }

void Run::kill_server() {
  if (!server_->running()) return;
  server_->kill(false);
  world_.after(world_.some_while(seconds(4)), [this] { server_->start(); });
}

/// It dies again and again while its clients connect.
void Run::shake_server() {
  Duration at{};
  for (std::uint32_t i = 2 + world_.below(5); i > 0; --i) {
    at += milliseconds(world_.below(400));
    world_.after(at, [this] {
      if (!server_->running()) return;
      server_->kill(world_.one_in(2));
      server_->start();
    });
  }
}

void Run::cut_power() {
  if (!server_->running()) return;
  server_->kill(true);
  world_.after(world_.some_while(seconds(8)), [this] { server_->start(); });
}

void Run::restart_server() {
  if (!server_paused_) server_->restart();
}

void Run::kill_client() {
  ClientHost& client = any_client();
  if (!client.running()) return;
  client.kill(true);
  world_.after(world_.some_while(seconds(3)), [&client] { client.start(); });
}

void Run::lose_client() {
  ClientHost& client = any_client();
  if (!client.running()) return;
  client.kill(false);
  world_.after(world_.some_while(seconds(3)), [&client] { client.start(); });
}

void Run::upgrade_client() { any_client().upgrade(); }

void Run::pause_somebody() {
  const std::uint32_t which = world_.below(static_cast<std::uint32_t>(clients_.size()) + 1);
  const Duration length = world_.some_while(seconds(8));
  if (which == clients_.size()) {
    world_.note("server: is paused");
    server_paused_ = true;
    world_.after(length, [this] { server_paused_ = false; });
  } else {
    world_.note("{}: is paused", clients_[which]->name());
    client_paused_[which] = true;
    world_.after(length, [this, which] { client_paused_[which] = false; });
  }
}

/// What its queues hold is still done when it goes on, however late that is.
void Run::stall_thread() {
  const auto threads = world_.one_in(3) ? any_client().contexts() : server_->contexts();
  if (threads.empty()) return;
  const std::size_t which = world_.below(static_cast<std::uint32_t>(threads.size()));
  const sim::ManualContext* const thread = threads[which];
  if (!stalled_.insert(thread).second) return;
  world_.note("thread {} of {} is stalled", which, threads.size());
  world_.after(world_.some_while(seconds(8)), [this, thread] { stalled_.erase(thread); });
}

void Run::slow_disks() {
  slow_disks_down(milliseconds(1 + world_.below(3000)), world_.some_while(seconds(10)));
}

void Run::slow_disks_down(Duration slowest, Duration length) {
  server_->mood.slowest = slowest;
  world_.after(length, [this] { server_->mood.slowest = DiskMood().slowest; });
}

void Run::stick_disks() {
  world_.note("disks: stuck");
  server_->mood.stuck = true;
  world_.after(world_.some_while(seconds(10)), [this] { server_->mood.stuck = false; });
}

void Run::failing_disks() {
  world_.note("disks: failing");
  server_->mood.fails_one_in = 2 + world_.below(40);
  for (const auto& client : clients_) {
    for (DiskUser* const user : client->users()) user->errors_are_fine = true;
  }
  world_.after(world_.some_while(seconds(5)), [this] { server_->mood.fails_one_in = 0; });
}

/// By whole blocks of 4 KiB.
void Run::resize_disk() {
  if (!server_->can_shrink()) return;
  server_->resize(world_.below(kDisks), kDiskSectors / 2 + 8 * world_.below(kDiskSectors / 16 + 1));
}

void Run::unmap_something() { any_client().unmap_any(world_.one_in(2)); }

void Run::change_path() { any_client().change_any_path({server_address(0), server_address(1)}); }

void Run::let_intruder_in() {
  intruder_->come();
  world_.after(world_.some_while(seconds(20)), [this] { intruder_->go(); });
}

void Run::heal_everything() {
  intruder_->go();
  for (const auto& client : clients_) {
    for (std::size_t adapter = 0; adapter < 2; ++adapter) {
      fabric_.heal(client->host().address(adapter), server_address(adapter));
    }
  }
  fabric_.refuse_connects(0);
  server_paused_ = false;
  client_paused_.assign(clients_.size(), false);
  stalled_.clear();
  server_->mood = {};
}

}  // namespace rnbd::simulator
