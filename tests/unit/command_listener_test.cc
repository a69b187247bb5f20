// SPDX-License-Identifier: Apache-2.0
// Listening for commands where somebody else has the place for now.
#include "common/control/command_listener.h"

#include <filesystem>
#include <fstream>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "sim/manual_control.h"
#include "unit/temp_directory.h"

namespace rnbd::control {
namespace {

TEST(CommandListener, InsistsUntilThePlaceIsFree) {
  const test::TempDirectory directory;
  const std::filesystem::path path = directory.path() / "control.sock";
  std::ofstream(path) << "no socket";
  boost::asio::io_context io;
  ControlServer server(io);
  sim::ManualControl control;
  CommandListener listener(control, server, path.string());
  EXPECT_EQ(listener.listen().error().code, EEXIST);

  const auto pass = [&] {
    control.context().advance(CommandListener::kAgain);
    while (control.context().run_once()) {
    }
  };
  listener.insist();
  pass();
  EXPECT_TRUE(std::filesystem::is_regular_file(path)) << "it is somebody's";
  std::filesystem::remove(path);
  pass();
  EXPECT_TRUE(std::filesystem::is_socket(path));
  EXPECT_EQ(control.context().next_deadline(), kNever) << "once is enough";
}

}  // namespace
}  // namespace rnbd::control
