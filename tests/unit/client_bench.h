// SPDX-License-Identifier: Apache-2.0
// The client from its commands down to the bytes on its NBD sockets, over a network in memory, with
// a server whose disks are memory too. Kernel driver and keeper are played; the state file is a
// real one, and its thread the only other one there is.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "client/control_plane.h"
#include "common/control/state_file.h"
#include "common/control/verbs.h"
#include "sim/command_table.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "sim/nbd_socket_driver.h"
#include "unit/disk_bench.h"
#include "unit/temp_directory.h"

namespace rnbd::client::bench {

/// What other threads post, run by the test's when it likes.
class Letterbox final : public Executor {
 public:
  void post(Task task) override {
    const std::lock_guard lock(mutex_);
    letters_.push_back(std::move(task));
    arrived_.notify_one();
  }

  /// False if there was nothing, and nothing came within `patience`.
  bool read(std::chrono::milliseconds patience) {
    std::vector<Task> letters;
    {
      std::unique_lock lock(mutex_);
      arrived_.wait_for(lock, patience, [this] { return !letters_.empty(); });
      letters.swap(letters_);
    }
    for (Task& letter : letters) letter();
    return !letters.empty();
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Task> letters_;
};

class PlayedKeeper final : public DescriptorKeeper {
 public:
  [[nodiscard]] bool has_keeper() const override { return true; }
  Status keep(const std::string& name, int fd) override {
    kept[name] = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    return {};
  }
  void forget(const std::string& name) override { kept.erase(name); }
  std::map<std::string, UniqueFd> take_inherited() override {
    std::map<std::string, UniqueFd> copies;
    for (const auto& [name, fd] : kept)
      copies[name] = UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    return copies;
  }

  std::map<std::string, UniqueFd> kept;
};

/// The kernel's end of a socket; its rules are checked.
class PlayedSocket final : public sim::NbdSocketDriver {
 public:
  using NbdSocketDriver::NbdSocketDriver;

 private:
  void on_violation(const char* what) override { ADD_FAILURE() << what; }
};

class PlayedNbd final : public NbdDriver {
 public:
  explicit PlayedNbd(Executor& control) : control_(control) {}

  struct Device {
    std::string backend;
    std::vector<PlayedSocket> sockets;
  };

  void attach(NbdDeviceConfig config, std::vector<UniqueFd> sockets, std::uint32_t,
              std::move_only_function<void(Result<std::uint32_t>)> done) override {
    take(hold_attaches, [this, config = std::move(config), sockets = std::move(sockets),
                         done = std::move(done)]() mutable {
      if (const int error = std::exchange(next_attach_fails, 0); error != 0) {
        return done(fail(error, "the kernel would not"));
      }
      std::uint32_t index = 0;
      while (devices.contains(index)) ++index;
      if (config.index && devices.contains(*config.index)) return done(fail(EBUSY, "it is taken"));
      Device& device = devices[config.index.value_or(index)];
      device.backend = config.backend;
      for (UniqueFd& socket : sockets) device.sockets.emplace_back(std::move(socket));
      done(config.index.value_or(index));
    });
  }
  void detach(std::uint32_t index, bool, std::move_only_function<void(Status)> done) override {
    take(false, [this, index, done = std::move(done)]() mutable {
      devices.erase(index);
      done({});
    });
  }
  void resize(std::uint32_t, std::uint64_t, std::string,
              std::move_only_function<void(Status)> done) override {
    take(false, [done = std::move(done)]() mutable { done({}); });
  }
  void detach_leftover(std::optional<std::uint32_t> index, std::string backend,
                       std::move_only_function<void(Status)> done) override {
    take(hold_clearing, [this, index, backend, done = std::move(done)]() mutable {
      std::erase_if(devices, [&](const auto& one) {
        return one.second.backend == backend && index.value_or(one.first) == one.first;
      });
      done({});
    });
  }

  /// What was held up is done now.
  void let_go() {
    hold_attaches = hold_clearing = false;
    for (Executor::Task& task : std::exchange(held, {})) control_.post(std::move(task));
  }

  std::map<std::uint32_t, Device> devices;
  std::vector<Executor::Task> held;
  bool hold_attaches = false;
  bool hold_clearing = false;
  int next_attach_fails = 0;  ///< an errno

 private:
  void take(bool hold, Executor::Task task) {
    if (hold) {
      held.push_back(std::move(task));
    } else {
      control_.post(std::move(task));
    }
  }

  Executor& control_;
};

class ClientBench : public testing::Test {
 protected:
  ClientBench() {
    for (const char* const disk : {"vol1", "vol2"}) (void)disks_.make_file(disk, kDiskBytes);
    plane_.serve(commands_);
  }
  ~ClientBench() override {
    bool stopped = false;
    nbd_.let_go();
    plane_.stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped; }));
    server_.listener.reset();
    bool closed = false;
    server_.acceptor.close([&] { closed = true; });
    EXPECT_TRUE(until([&] { return closed; }));
    settle();
  }

  static constexpr std::uint64_t kDiskBytes = 1 << 20;

  /// As long as it takes: time goes by where nothing else happens.
  bool until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (round()) continue;
      if (reads_letters_ && letters_.read(std::chrono::milliseconds(1))) continue;
      if (std::chrono::steady_clock::now() > deadline) return condition();
      for (sim::ManualContext* const context : contexts_) {
        context->advance(std::chrono::milliseconds(20));
      }
    }
    return true;
  }
  /// Until nothing moves any more but the clock.
  void settle() {
    while (round() || (reads_letters_ && letters_.read(std::chrono::milliseconds(0)))) {
    }
    if (reads_letters_ && state_ && state_->busy()) {
      EXPECT_TRUE(until([this] { return !state_->busy(); }));
      settle();
    }
  }
  void pass(std::chrono::milliseconds time) {
    constexpr std::chrono::milliseconds kStep{200};
    for (; time > std::chrono::milliseconds(0); time -= kStep) {
      for (sim::ManualContext* const context : contexts_) context->advance(kStep);
      settle();
    }
  }

  /// What the daemon does when it starts; `content` is what its state file holds.
  void remember(const std::string& content) {
    if (!content.empty()) std::ofstream(state_path()) << content;
    state_.emplace(letters_, directory_.path().string(), "state.json");
    plane_.remember_in(*state_);
    if (reads_letters_) {
      EXPECT_TRUE(letters_.read(std::chrono::seconds(20))) << "it is not read";
    }
  }
  [[nodiscard]] std::string state_path() const { return directory_.path() / "state.json"; }
  [[nodiscard]] control::Json mappings() const {
    std::ifstream file(state_path());
    return control::Json::parse(file).at("mappings");
  }
  /// The file's content for one mapping.
  static std::string one_mapping(const std::vector<std::string>& words,
                                 const std::string& node = "/dev/nbd0") {
    control::Json one = {
        {"session", "blya"}, {"device_path", "vol1"}, {"words", words}, {"node", node}};
    return control::Json{{"mappings", control::Json::array({one})}, {"version", 1}}.dump();
  }
  [[nodiscard]] std::string path_word() { return "path=" + fabric_.host("server").address(0); }

  /// A command on its way.
  using Answer = std::shared_ptr<std::optional<control::Outcome>>;
  Answer begin(const char* verb, const control::Json& args) {
    auto answer = std::make_shared<std::optional<control::Outcome>>();
    commands_.call(verb, args, control::Reply([answer](const control::Outcome& outcome) {
                     *answer = outcome;
                   }));
    return answer;
  }
  Answer begin_map(const std::vector<std::string>& words) {
    return begin(control::kMapVerb, control::map_args(words));
  }
  control::Outcome wait(const Answer& answer) {
    if (until([&] { return answer->has_value(); })) return **answer;
    return std::unexpected(control::Failure{{ETIMEDOUT, "it is not answered"}, {}, {}});
  }
  control::Outcome ask(const char* verb, const control::Json& args = control::Json::object()) {
    return wait(begin(verb, args));
  }
  /// Its node, or why there is none.
  std::string map(std::vector<std::string> words) {
    const auto mapped = wait(begin_map(words));
    return mapped ? *control::read_map_result(*mapped) : describe(mapped.error().error);
  }
  control::Outcome unmap(const std::string& device) {
    return ask(control::kUnmapVerb, control::to_json(control::UnmapArgs{device, true}));
  }
  control::Json list() { return *ask(control::kListVerb); }
  /// Everybody does what lies before him, once; false if nobody has anything to do.
  bool round() {
    bool busy = fabric_.step();
    for (sim::ManualContext* const context : contexts_) busy |= context->run_once();
    for (auto& [index, device] : nbd_.devices) {
      for (PlayedSocket& socket : device.sockets) busy |= socket.pump();
    }
    return busy;
  }

  sim::MemoryFabric fabric_{{.adapters = 2}};
  rnbd::test::TempDirectory disks_;
  rnbd::test::TempDirectory directory_;
  server::test::DiskServer server_{fabric_.host("server"), false, disks_.path().string()};
  sim::ManualControl control_;
  std::array<sim::ManualContext, 2> workers_;
  Letterbox letters_;
  bool reads_letters_ = true;
  PlayedNbd nbd_{control_};
  PlayedKeeper keeper_;
  std::optional<control::StateFile> state_;
  sim::CommandTable commands_;
  ControlPlane plane_{{.fabric = fabric_.host("client"),
                       .control = control_,
                       .nbd = nbd_,
                       .keeper = keeper_,
                       .random =
                           [this](std::span<std::byte> bytes) {
                             for (std::byte& one : bytes) one = static_cast<std::byte>(++random_);
                           },
                       .workers = {&workers_[0], &workers_[1]}},
                      [] {}};

 private:
  const std::array<sim::ManualContext*, 6> contexts_ = {
      &control_.context(),        &workers_[0],        &workers_[1],
      &server_.control.context(), &server_.workers[0], &server_.workers[1]};
  unsigned random_ = 0;
};

}  // namespace rnbd::client::bench
