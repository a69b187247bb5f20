// SPDX-License-Identifier: Apache-2.0
// What the log does to a line before anybody reads it.
#include "common/log.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "common/printable.h"

namespace rnbd {
namespace {

TEST(Printable, LeavesTextAloneAndWritesControlCharactersOut) {
  EXPECT_EQ(printable("vol1 ä €"), "vol1 ä €");
  EXPECT_EQ(printable("a\nb\x1b[2J\x7f"), "a\\x0ab\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"), "\\x9b") << "a control character in two bytes";
}

TEST(Log, APeersNameStaysOnItsLine) {
  testing::internal::CaptureStderr();
  log::start("info");
  log::info("session {} is up", "evil\n2026-01-01 error: all is lost");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(text, '\n'), 1) << text;
  EXPECT_NE(text.find("evil\\x0a2026"), std::string::npos) << text;
}

}  // namespace
}  // namespace rnbd
