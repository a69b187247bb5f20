// SPDX-License-Identifier: Apache-2.0
// The server's whole control plane with its commands, over the network in memory and disks of
// memory, and one client that speaks by hand. One thread, but for the one that writes state files.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/control/state_file.h"
#include "common/control/verbs.h"
#include "server/control_plane.h"
#include "sim/command_table.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "unit/disk_bench.h"
#include "unit/raw_peer.h"

namespace rnbd::server::test {

/// Where other threads leave what is to be run on the test's.
class Inbox final : public Executor {
 public:
  void post(Task task) override {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    arrived_.notify_one();
  }
  void run() {
    std::vector<Task> tasks;
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(tasks_);
    }
    for (Task& task : tasks) task();
  }
  /// False: nothing has come in time.
  bool wait() {
    std::unique_lock lock(mutex_);
    return arrived_.wait_for(lock, std::chrono::seconds(20), [this] { return !tasks_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Task> tasks_;
};

class ServerBench {
 public:
  ServerBench() {
    (void)directory.make_file("disk", kDiskSize);
    (void)directory.make_file("other", kDiskSize);
    EXPECT_TRUE(plane.listen(fabric.host("server"), 1234));
    plane.serve(commands_);
  }
  ~ServerBench() {
    client.close();
    bool stopped = false;
    plane.stop([&] { stopped = true; });
    EXPECT_TRUE(until([&] { return stopped; }));
  }
  ServerBench(const ServerBench&) = delete;
  ServerBench& operator=(const ServerBench&) = delete;

  bool until(const std::function<bool()>& condition) {
    return sim::run_until(
        [&] {
          inbox.run();
          client.poll();
          return condition();
        },
        {&control.context(), &workers[0], &workers[1]}, fabric);
  }
  void settle() {
    sim::run_until_idle({&control.context(), &workers[0], &workers[1]}, fabric,
                        [this] { return client.poll(); });
  }
  void pass(std::chrono::seconds time) {
    for (auto second = std::chrono::seconds(0); second < time; ++second) {
      sim::advance(std::chrono::seconds(1), {&control.context(), &workers[0], &workers[1]});
      settle();
    }
  }

  /// What a command has been answered, so far.
  using Answer = std::optional<control::Outcome>;
  std::shared_ptr<Answer> ask(const std::string& verb, const control::Json& args) {
    auto answer = std::make_shared<Answer>();
    commands_.call(verb, args, control::Reply([answer](const control::Outcome& outcome) {
                     *answer = outcome;
                   }));
    settle();
    return answer;
  }
  /// Waits for the answer: 0, or its errno.
  int code_of(const std::shared_ptr<Answer>& answer) {
    while (!answer->has_value() && inbox.wait()) {
      inbox.run();
      settle();
    }
    if (!answer->has_value()) return -1;
    return **answer ? 0 : (*answer)->error().error.code;
  }
  int add(const std::string& name, const std::string& file, bool temporary = false) {
    return code_of(ask(
        "export", control::to_json(control::ExportArgs{.action = "add",
                                                       .name = name,
                                                       .path = (directory.path() / file).string(),
                                                       .temporary = temporary})));
  }
  std::shared_ptr<Answer> begin_remove(const std::string& name, bool force) {
    control::ExportArgs args;
    args.action = "remove";
    args.name = name;
    args.force = force;
    return ask("export", control::to_json(args));
  }
  /// `off`: ends it. Sessions and devices that are waited for.
  control::DrainResult drain(bool off = false) {
    control::DrainArgs args;
    args.off = off;
    const auto answer = ask("drain", control::to_json(args));
    return *control::read_drain_result(***answer);
  }

  /// As a client sends it: 0, or an errno.
  int open(const std::string& name) { return client.ask(open_request(name)); }
  [[nodiscard]] rtrs::test::RawRequest open_request(const std::string& name) const {
    wire::Open message;
    message.header = wire::header(wire::MessageType::Open);
    message.access_mode = std::to_underlying(wire::AccessMode::ReadWrite);
    std::ranges::copy(name, message.device_name.begin());
    return client.read_request(rtrs::test::join(message), sizeof(wire::OpenResponse));
  }
  /// It vanishes; the server has noticed when this returns.
  void lose_client() {
    client.hang_up();
    settle();
  }

  rnbd::test::TempDirectory directory;
  Inbox inbox;
  sim::MemoryFabric fabric;
  sim::ManualControl control;
  std::array<sim::ManualContext, 2> workers;
  MemoryDisks disks;

 private:
  std::array<MemoryStore, 2> stores_ = {MemoryStore(workers[0], disks),
                                        MemoryStore(workers[1], disks)};
  sim::CommandTable commands_;

 public:
  ControlPlane plane{control,
                     {{&workers[0], &stores_[0]}, {&workers[1], &stores_[1]}},
                     {.parameters = {.queue_depth = kDepth,
                                     .max_io_size = kMaxIo,
                                     .max_header_size = limits::kHeaderArea,
                                     .new_key = true},
                      .limits = rtrs::ClientLimits::of_memory(std::uint64_t{1} << 30)},
                     *SearchPath::create(directory.path().string())};
  rtrs::test::RawClient client{fabric.host("client"), fabric.host("server").address(),
                               [this](const auto& condition) { return until(condition); }};
};

}  // namespace rnbd::server::test
