// SPDX-License-Identifier: Apache-2.0
// Reloading: what changes, what is named, what a wrong file does not do, and who reads it.
#include "common/control/reload.h"

#include <cerrno>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/control/asio_context.h"
#include "unit/control_thread.h"

namespace rnbd::control {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Options {
  int light = 1;  ///< may change
  int heavy = 1;  ///< may not
  std::function<std::expected<void, Failure>(Options& fresh)> read_again;
};

constexpr int kTooLight = 100;  ///< while somebody uses it

std::vector<std::string_view> differ(const Options& one, const Options& other) {
  std::vector<std::string_view> names;
  if (one.light != other.light) names.emplace_back("light");
  if (one.heavy != other.heavy) names.emplace_back("heavy");
  return names;
}

Result<std::vector<ReloadResult::Refused>> adopt(Options& running, const Options& fresh) {
  if (fresh.light == 0) return fail(EINVAL, "light must not be 0");
  std::vector<ReloadResult::Refused> refused;
  if (fresh.light > kTooLight) {
    refused.push_back({"light", "somebody uses it"});
  } else {
    running.light = fresh.light;
  }
  return refused;
}

class Reload : public testing::Test {
 protected:
  ~Reload() override {
    control_.run([this] { reloader_.reset(); });
  }

  /// A daemon whose files say that now.
  Reloaded reload(int light, int heavy) {
    running_.read_again = [=](Options& fresh) -> std::expected<void, Failure> {
      if (light < 0)
        return std::unexpected(Failure{{EINVAL, "f:1:1"}, ExitCode::ConfigInvalid, {}});
      fresh.light = light;
      fresh.heavy = heavy;
      return {};
    };
    return begin().get();
  }

  std::future<Reloaded> begin() {
    std::promise<Reloaded> promise;
    auto done = promise.get_future();
    control_.run([&] {
      reloader_->reload([promise = std::move(promise)](const Reloaded& reloaded) mutable {
        promise.set_value(reloaded);
      });
    });
    return done;
  }

  test::ControlThread control_;
  AsioContext context_{control_.context()};
  Options running_;
  std::unique_ptr<Reloader<Options>> reloader_ =
      std::make_unique<Reloader<Options>>(context_, running_, adopt, differ);
};

TEST_F(Reload, SaysWhatHasChangedAndWhatNeedsARestart) {
  const auto first = reload(2, 3);
  ASSERT_TRUE(first);
  EXPECT_THAT(first->changed, ElementsAre("light"));
  EXPECT_THAT(first->needs_restart, ElementsAre("heavy"));
  EXPECT_EQ(running_.light, 2);
  EXPECT_EQ(running_.heavy, 1) << "it still runs with that";
  const auto second = reload(2, 3);
  EXPECT_THAT(second->changed, IsEmpty());
  EXPECT_THAT(second->needs_restart, ElementsAre("heavy")) << "as long as it is so";
  EXPECT_THAT(reload(2, 1)->needs_restart, IsEmpty());
}

TEST_F(Reload, AWrongFileChangesNothing) {
  const auto wrong = reload(-1, 1);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().exit, ExitCode::ConfigInvalid);
  EXPECT_EQ(running_.light, 1);
}

TEST_F(Reload, NorDoesAFileThatCannotBeAdopted) {
  const auto wrong = reload(0, 2);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().exit, ExitCode::ConfigInvalid);
  EXPECT_EQ(wrong.error().error.message, "light must not be 0");
  EXPECT_EQ(running_.light, 1);
}

TEST_F(Reload, WhatIsRefusedNeedsNoRestartAndIsTriedAgain) {
  const auto refused = reload(kTooLight + 1, 2);
  ASSERT_TRUE(refused);
  EXPECT_THAT(refused->changed, IsEmpty());
  EXPECT_THAT(refused->needs_restart, ElementsAre("heavy"));
  ASSERT_EQ(refused->refused.size(), 1U);
  EXPECT_EQ(refused->refused[0].key, "light");
  EXPECT_EQ(refused->refused[0].why, "somebody uses it");
  EXPECT_EQ(running_.light, 1);
  EXPECT_EQ(reload(kTooLight + 1, 2)->refused.size(), 1U);
}

TEST_F(Reload, FilesThatKeepTheirReaderWaitingKeepNobodyElse) {
  std::promise<void> readable;
  running_.read_again =
      [file = readable.get_future().share()](Options& fresh) -> std::expected<void, Failure> {
    file.wait();
    fresh.light = 2;
    return {};
  };
  auto first = begin();
  auto second = begin();
  EXPECT_EQ(control_.run([] { return 42; }), 42) << "the control thread answers meanwhile";
  readable.set_value();
  EXPECT_THAT(first.get()->changed, ElementsAre("light"));
  EXPECT_THAT(second.get()->changed, IsEmpty());
}

}  // namespace
}  // namespace rnbd::control
