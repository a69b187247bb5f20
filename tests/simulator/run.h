// SPDX-License-Identifier: Apache-2.0
// One simulated run: a server, clients, the network between them, and what befalls them, all drawn
// from a seed. When the time is over everything is healed, all requests must end, and nothing may
// be left. One thread; objects of programs that were killed stay until the process ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/memory_fabric.h"
#include "simulator/client_host.h"
#include "simulator/intruder.h"
#include "simulator/server_host.h"
#include "simulator/world.h"

namespace rnbd::simulator {

struct RunOptions {
  std::uint64_t seed = 1;
  unsigned tempo = 1;  ///< World::set_tempo()
  Duration length = std::chrono::minutes(2);
  std::filesystem::path directory;  ///< make_disk_files() has been here
  bool follow = false;              ///< print what happens
};

struct RunResult {
  bool passed = false;
  std::string why;
  std::uint64_t answered = 0;  ///< requests of users
  std::uint64_t faults = 0;
};

inline constexpr std::uint32_t kDisks = 4;
inline constexpr std::uint32_t kDiskSectors = 256;

/// Files that stand for the disks: only their sizes matter.
void make_disk_files(const std::filesystem::path& directory);

class Run {
 public:
  explicit Run(const RunOptions& options);
  RunResult go();

 private:
  using Fault = void (Run::*)();
  enum class Ways : std::uint8_t { Both, ToServer, ToClient };
  struct Chance {
    Fault fault = nullptr;
    std::uint32_t weight = 0;
  };

  // What befalls them: run_faults.cc
  void draw_faults();
  void schedule_fault();
  void cut_line();
  void strand_packets();
  void strand_predecessor();
  void lose_one_way();
  void cut(ClientHost& client, std::size_t adapter, Duration length, Duration silence,
           Ways ways = Ways::Both);
  void run_out_of_retries(const std::string& near, const std::string& far, Duration from,
                          Duration to);
  void break_line();
  void still_connection();
  void refuse_connections();
  void kill_server();
  void shake_server();
  void cut_power();
  void restart_server();
  void kill_client();
  void lose_client();
  void upgrade_client();
  void pause_somebody();
  void stall_thread();
  void slow_disks();
  void slow_disks_down(Duration slowest, Duration length);
  void stick_disks();
  void failing_disks();
  void resize_disk();
  void unmap_something();
  void change_path();
  void let_intruder_in();
  void heal_everything();

  // run.cc
  void add_clients();
  void turn_until(TimePoint end);
  bool turn_until_or_fail(const std::function<bool()>& done, Duration patience, const char* what);
  bool round(bool everybody);
  bool run_contexts(bool everybody);
  void pass_time(TimePoint limit);
  [[nodiscard]] TimePoint next_deadline() const;
  void finish();
  [[nodiscard]] bool all_run() const;
  [[nodiscard]] bool opened_as_mapped() const;
  [[nodiscard]] bool all_have_their_size() const;
  void check_what_is_left();
  void fail_with_state(const std::string& why);
  ClientHost& any_client();
  [[nodiscard]] std::string server_address(std::size_t adapter);

  const RunOptions options_;
  World world_;
  sim::MemoryFabric fabric_;
  std::unique_ptr<ServerHost> server_;
  std::vector<std::unique_ptr<ClientHost>> clients_;
  std::unique_ptr<Intruder> intruder_;
  std::vector<Chance> chances_;
  Duration fault_pause_{};
  bool faults_on_ = true;
  std::uint64_t faults_ = 0;
  std::uint64_t rounds_without_time_ = 0;
  bool server_paused_ = false;
  std::vector<bool> client_paused_;
  std::set<const sim::ManualContext*> stalled_;  ///< threads that do not run
};

}  // namespace rnbd::simulator
