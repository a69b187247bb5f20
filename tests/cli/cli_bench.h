// SPDX-License-Identifier: Apache-2.0
// Runs the built commands as scripts do: exit codes, what is on stdout and what is not, JSON. The
// daemon is a control server of this process, on a thread of its own.
#pragma once

#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <spawn.h>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "common/control/server.h"
#include "common/control/verbs.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::control {

struct Ran {
  int exit = -1;
  std::string out;
  std::string err;
};

inline std::string read_all(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline Json one_device() {
  Json devices = Json::array();
  devices.push_back(
      to_json(DeviceEntry{"/dev/nbd0", "blya", "vol1", "open", "rw", "blockio", 1 << 30, ""}));
  devices[0]["paths"] = Json::array({"ip:10.0.0.1"});
  return list_result(devices);
}

class Cli : public testing::Test {
 protected:
  void TearDown() override {
    thread_.run([this] { server_.reset(); });
  }

  /// A daemon that knows one verb.
  void serve(const std::string& verb, ControlServer::Handler handler) {
    serve({{verb, std::move(handler)}});
  }

  void serve(std::map<std::string, ControlServer::Handler> handlers) {
    const Status listening = thread_.run([&] {
      server_ = std::make_unique<ControlServer>(thread_.context());
      for (auto& [verb, handler] : handlers) server_->handle(verb, std::move(handler));
      return server_->listen(socket_);
    });
    ASSERT_TRUE(listening) << describe(listening.error());
  }

  /// A client's daemon that has one_device() and cannot map "bad"; what it does is in done_.
  void serve_mappings() {
    serve({{"list", [](const Json&, Reply reply) { reply(one_device()); }},
           {"map",
            [this](const Json& args, Reply reply) {
              const auto words = read_map_args(args);
              if (words->at(1) == "device_path=bad") return reply(fail(ENOENT, "no bad here"));
              note("map " + words->at(1));
              reply(map_result("/dev/nbd7"));
            }},
           {"unmap", [this](const Json& args, Reply reply) {
              note("unmap " + read_unmap_args(args)->device);
              reply(Json::object());
            }}});
  }

  void note(const std::string& what) {
    const std::lock_guard lock(mutex_);
    done_.push_back(what);
  }
  std::vector<std::string> done() {
    const std::lock_guard lock(mutex_);
    return std::exchange(done_, {});
  }

  /// A tab, as an option.
  std::string tab(const std::string& text) {
    std::ofstream(directory_ + "/tab") << text;
    return "--tab-file=" + directory_ + "/tab";
  }

  /// A daemon whose `verb` answers `result` and keeps what it was asked in asked().
  void answer(const std::string& verb, Result<Json> result) {
    serve(verb, [this, result = std::move(result)](const Json& args, Reply reply) {
      {
        const std::lock_guard lock(mutex_);
        asked_ = args;
      }
      reply(result);
    });
  }

  Json asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

  /// Runs a program to its end, its output in files.
  Ran run(const char* program, std::vector<std::string> arguments) {
    return run_into(program, std::move(arguments), directory_ + "/out");
  }

  Ran run_into(const char* program, std::vector<std::string> arguments, const std::string& out) {
    const std::string err = directory_ + "/err";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t child = -1;
    const int spawned = ::posix_spawn(&child, program, &actions, nullptr, argv.data(), ::environ);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(spawned, 0);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    const bool file = std::filesystem::is_regular_file(out);
    return {WEXITSTATUS(status), file ? read_all(out) : std::string(), read_all(err)};
  }

  /// rnbd-client, talking to this test's daemon.
  Ran client(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--control", socket_});
    return run(RNBD_CLIENT, std::move(arguments));
  }

  Ran server(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--control", socket_});
    return run(RNBD_SERVER, std::move(arguments));
  }

  test::TempDirectory temporary_;
  std::string directory_ = temporary_.path();
  std::string socket_ = directory_ + "/d.sock";
  std::mutex mutex_;
  Json asked_;
  std::vector<std::string> done_;
  std::unique_ptr<ControlServer> server_;
  test::ControlThread thread_;  ///< last: nothing above dies while it runs
};

}  // namespace rnbd::control
