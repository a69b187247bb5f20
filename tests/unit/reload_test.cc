// SPDX-License-Identifier: Apache-2.0
// Reloading: what changes, what is named, and what a wrong file does not do.
#include "common/control/reload.h"

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rnbd::control {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Options {
  int light = 1;  ///< may change
  int heavy = 1;  ///< may not
  std::function<std::expected<void, Failure>(Options& fresh)> read_again;
};

std::vector<std::string_view> differ(const Options& one, const Options& other) {
  std::vector<std::string_view> names;
  if (one.light != other.light) names.emplace_back("light");
  if (one.heavy != other.heavy) names.emplace_back("heavy");
  return names;
}

Status adopt(Options& running, const Options& fresh) {
  if (fresh.light == 0) return fail(EINVAL, "light must not be 0");
  running.light = fresh.light;
  return {};
}

class Reload : public testing::Test {
 protected:
  /// A daemon whose files say that now.
  Reloaded reload(int light, int heavy) {
    running_.read_again = [=](Options& fresh) -> std::expected<void, Failure> {
      if (light < 0)
        return std::unexpected(Failure{{EINVAL, "f:1:1"}, ExitCode::ConfigInvalid, {}});
      fresh.light = light;
      fresh.heavy = heavy;
      return {};
    };
    return control::reload(running_, adopt, differ);
  }

  Options running_;
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

}  // namespace
}  // namespace rnbd::control
