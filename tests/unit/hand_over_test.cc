// SPDX-License-Identifier: Apache-2.0
// A client that is being replaced while a server keeps a command waiting: what is mapped is brought
// to rest all the same.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "client/control_plane.h"
#include "client/descriptor_store.h"
#include "common/control/verbs.h"
#include "common/log.h"
#include "sim/command_table.h"
#include "sim/manual_control.h"
#include "sim/memory_fabric.h"
#include "unit/disk_bench.h"

namespace rnbd::client {
namespace {

using std::chrono::milliseconds;

/// A kernel that asks for nothing.
class QuietKernel final : public NbdDriver {
 public:
  void attach(NbdDeviceConfig, std::vector<UniqueFd> sockets, std::uint32_t,
              std::move_only_function<void(Result<std::uint32_t>)> done) override {
    std::ranges::move(sockets, std::back_inserter(sockets_));
    done(attached++);
  }
  void detach(std::uint32_t, bool, std::move_only_function<void(Status)> done) override {
    done({});
  }
  void resize(std::uint32_t, std::uint64_t, std::string,
              std::move_only_function<void(Status)> done) override {
    done({});
  }
  void detach_leftover(std::optional<std::uint32_t>, std::string,
                       std::move_only_function<void(Status)> done) override {
    done({});
  }

  std::uint32_t attached = 0;

 private:
  std::vector<UniqueFd> sockets_;
};

class HandOver : public testing::Test {
 protected:
  HandOver() {
    (void)directory_.make_file("disk", server::test::kDiskSize);
    (void)directory_.make_file("other", server::test::kDiskSize);
    plane_.serve(commands_);
  }
  ~HandOver() override {
    server_is_busy_ = false;
    bool stopped = false;
    plane_.stop([&] { stopped = true; });
    for (int i = 0; i < 100 && !stopped; ++i) pass(milliseconds(100));
    EXPECT_TRUE(stopped);
    bool closed = false;
    server_.acceptor.close([&] { closed = true; });
    pass({});
    EXPECT_TRUE(closed);
    server_.listener.reset();
  }

  void map(const std::string& disk) {
    const std::vector<std::string> words = {
        "sessname=s", "path=" + fabric_.host("server").address(), "device_path=" + disk};
    commands_.call(control::kMapVerb, control::map_args(words),
                   control::Reply([](const control::Outcome&) {}));
    pass({});
  }
  void pass(Duration time) {
    sim::advance(time, {&server_.control.context(), &server_.workers[0], &server_.workers[1],
                        &control_.context(), &workers_[0], &workers_[1]});
    // Where the server's control thread is held up, the client's stands in for it.
    sim::run_until_idle(
        {server_is_busy_ ? &control_.context() : &server_.control.context(), &server_.workers[0],
         &server_.workers[1], &control_.context(), &workers_[0], &workers_[1]},
        fabric_);
  }

  test::TempDirectory directory_;
  sim::MemoryFabric fabric_;
  server::test::DiskServer server_{fabric_.host("server"), true, directory_.path().string()};
  bool server_is_busy_ = false;
  sim::ManualControl control_;
  std::array<sim::ManualContext, 2> workers_;
  QuietKernel kernel_;
  DescriptorStore nobody_;
  sim::CommandTable commands_;
  ControlPlane plane_{{.fabric = fabric_.host("client"),
                       .control = control_,
                       .nbd = kernel_,
                       .keeper = nobody_,
                       .random = kernel_random,
                       .workers = {&workers_[0], &workers_[1]}},
                      [] {}};
};

TEST_F(HandOver, AMapThatItsServerDoesNotAnswerKeepsNobodyFromComingToRest) {
  map("disk");
  ASSERT_EQ(kernel_.attached, 1U);
  server_is_busy_ = true;
  map("other");
  testing::internal::CaptureStderr();
  log::start("info");
  bool handed_over = false;
  plane_.hand_over([&] { handed_over = true; });
  for (int i = 0; i < 45; ++i) pass(milliseconds(20));
  EXPECT_FALSE(handed_over) << "it could come to an end";
  for (int i = 0; i < 10; ++i) pass(milliseconds(20));
  EXPECT_TRUE(handed_over);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("1 devices are at rest"),
            std::string::npos);
  EXPECT_EQ(kernel_.attached, 1U);
}

}  // namespace
}  // namespace rnbd::client
