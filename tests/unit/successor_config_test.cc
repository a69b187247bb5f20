// SPDX-License-Identifier: Apache-2.0
// What a client daemon does that goes on with the devices of one before it, and finds a wrong
// configuration file.
#include <cstdlib>
#include <fstream>
#include <string>
#include <unistd.h>
#include <utility>

#include <gtest/gtest.h>

#include "cli/client_config.h"
#include "client/config_file.h"
#include "common/memory_block.h"
#include "unit/temp_directory.h"

namespace rnbd::client {
namespace {

/// A process that somebody has kept a descriptor for, as `name`.
class Successor : public testing::Test {
 protected:
  ~Successor() override {
    ::unsetenv("LISTEN_FDS");
    ::unsetenv("LISTEN_FDNAMES");
  }
  void inherit(const std::string& name, const std::string& text) {
    auto file = MemoryBlock::make_file("config", text.size());
    ASSERT_TRUE(file);
    kept_ = std::move(*file);
    ASSERT_EQ(::pwrite(kept_.get(), text.data(), text.size(), 0), std::ssize(text));
    std::string names;
    for (int fd = 3; fd < kept_.get(); ++fd) names += "d:";
    ::setenv("LISTEN_FDNAMES", (names + name).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(kept_.get() - 2).c_str(), 1);
  }
  DaemonOptions start(const cli::ClientDaemonArguments& more = {}) {
    cli::ClientDaemonArguments arguments = more;
    arguments.config_file = path_;
    const auto options = cli::client_daemon_options(arguments, {});
    EXPECT_TRUE(options) << options.error().error.message;
    return options.value_or(DaemonOptions{});
  }

  test::TempDirectory directory_;
  std::string path_ = directory_.path() / "client.toml";
  UniqueFd kept_;
};

TEST_F(Successor, ThatFindsAWrongFileHasWhatItsPredecessorHad) {
  std::ofstream(path_) << "x = 1\n";
  inherit(kKeptConfig, "state_dir = \"/kept\"\ncontrol = \"/kept.sock\"\nslow_io_ms = 7\n");
  const DaemonOptions options = start();
  EXPECT_EQ(options.state_dir, "/kept");
  EXPECT_EQ(options.control_path, "/kept.sock");
  EXPECT_EQ(options.slow_io_ms, 7U);
  EXPECT_EQ(options.config_file, path_);
  cli::ClientDaemonArguments said;
  said.state_dir = "/said";
  EXPECT_EQ(start(said).state_dir, "/said") << "the command line counts more";
}

TEST_F(Successor, ReadsARightFile) {
  std::ofstream(path_) << "state_dir = \"/new\"\n";
  inherit(kKeptConfig, "state_dir = \"/kept\"\n");
  EXPECT_EQ(start().state_dir, "/new");
}

TEST_F(Successor, OfOneThatLeftNoConfigurationGoesOnAllTheSame) {
  std::ofstream(path_) << "x = 1\n";
  inherit("m1", "");
  EXPECT_EQ(start().state_dir, DaemonOptions{}.state_dir);
  inherit(kKeptConfig, "y = 1\n");
  EXPECT_EQ(start().state_dir, DaemonOptions{}.state_dir);
}

}  // namespace
}  // namespace rnbd::client
