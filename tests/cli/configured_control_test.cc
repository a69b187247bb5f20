// SPDX-License-Identifier: Apache-2.0
// Where commands find their daemon: what the configuration says of its socket.
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/config.h"
#include "cli/program.h"
#include "common/control/server.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ConfiguredSocket : public testing::Test {
 protected:
  ConfiguredSocket() { std::filesystem::create_directory(file_ + ".d"); }
  ~ConfiguredSocket() override {
    thread_.run([this] { server_.reset(); });
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file_ + name) << text;
  }
  /// A daemon with nothing mapped.
  void serve(const std::string& socket) {
    const Status listening = thread_.run([&] {
      server_ = std::make_unique<control::ControlServer>(thread_.context());
      server_->handle("list", [](const control::Json&, control::Reply reply) {
        reply(control::list_result(control::Json::array()));
      });
      return server_->listen(socket);
    });
    ASSERT_TRUE(listening) << describe(listening.error());
  }

  struct Ran {
    int exit = 0;
    std::string out;
    std::string err;
  };
  Ran run(std::vector<const char*> arguments) const {
    Program program("rnbd-client", "Maps", directory_.path() / "usual.sock", file_);
    program.add_list(ListKind::Client);
    arguments.insert(arguments.begin(), "rnbd-client");
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int exit = program.run(static_cast<int>(arguments.size()), arguments.data());
    return {exit, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
  }

  test::TempDirectory directory_;
  std::string file_ = directory_.path() / "client.toml";
  std::string socket_ = directory_.path() / "c.sock";
  test::ControlThread thread_;
  std::unique_ptr<control::ControlServer> server_;
};

TEST_F(ConfiguredSocket, IsTheLastOneThatTheFilesName) {
  EXPECT_FALSE(configured_control(file_).path);
  EXPECT_EQ(configured_control(file_).trouble, "") << "no file is no trouble";
  write("", "control = \"/a\"\nlog_level = \"info\"\n");
  EXPECT_EQ(configured_control(file_).path, "/a");
  write(".d/1.toml", "control = \"/b\"\n");
  write(".d/2.toml", "on_no_path = \"queue\"\n");
  EXPECT_EQ(configured_control(file_).path, "/b");
}

TEST_F(ConfiguredSocket, IsFoundBesideWhatIsWrong) {
  write("", "control = \"/a\"\nno_such_key = 1\n");
  write(".d/1.toml", "control = [\n");
  write(".d/2.toml", "control = 3\n");
  const ConfiguredControl found = configured_control(file_);
  EXPECT_EQ(found.path, "/a");
  EXPECT_THAT(found.trouble, HasSubstr("2.toml:1:11: control must be a string"));
}

TEST_F(ConfiguredSocket, IsAskedUnlessAnotherOneIsNamed) {
  write("", "control = \"" + socket_ + "\"\n");
  serve(socket_);
  EXPECT_EQ(run({"list"}).exit, 0);
  const Ran other = run({"list", "--control", "/nowhere"});
  EXPECT_EQ(other.exit, 10) << "what is named counts";
  EXPECT_THAT(other.err, HasSubstr("no daemon listens on /nowhere"));
}

TEST_F(ConfiguredSocket, IsWhatTheUnitStarts) {
  write("", "control = \"" + socket_ + "\"\n");
  const Ran ran = run({"list"});
  EXPECT_EQ(ran.exit, 10);
  EXPECT_EQ(ran.err, "rnbd-client: list: ENOENT: no daemon listens on " + socket_ +
                         "\nrnbd-client: start it: systemctl start rnbd-client, or in the "
                         "foreground: rnbd-client daemon --config " +
                         file_ + "\n");
}

TEST_F(ConfiguredSocket, AWrongFileIsToldOfWhereItMayMatter) {
  write("", "control = \"" + socket_);
  const Ran ran = run({"list"});
  EXPECT_EQ(ran.exit, 10);
  EXPECT_THAT(ran.err,
              HasSubstr("no daemon listens on " + directory_.path().string() +
                        "/usual.sock\nrnbd-client: another socket may be configured, but " + file_ +
                        ":1:"));
  EXPECT_EQ(run({"--help"}).exit, 0);
  serve(socket_);
  const Ran named = run({"list", "--control", socket_.c_str()});
  EXPECT_EQ(named.exit, 0);
  EXPECT_EQ(named.err, "");
  EXPECT_THAT(named.out, StartsWith("DEVICE"));
}

}  // namespace
}  // namespace rnbd::cli
