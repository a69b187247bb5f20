// SPDX-License-Identifier: Apache-2.0
// A server on adapters that cannot do what it is told to promise.
#include "transport/rtrs/device_check.h"

#include <array>

#include <gtest/gtest.h>

namespace rnbd::rtrs::test {
namespace {

const transport::Capabilities kGood{.device = "good0", .windows = true};
const transport::Capabilities kPoor{.device = "poor0", .windows = false};

TEST(DeviceCheck, AnAdapterWithoutWindowsIsRefusedWhereKeysAreToDie) {
  const std::array devices = {kGood, kPoor};
  const Status refused = check_devices({.new_key = true}, devices);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EOPNOTSUPP);
  EXPECT_NE(refused.error().message.find("poor0"), std::string::npos);
  EXPECT_NE(refused.error().message.find("--always-invalidate no"), std::string::npos);
}

TEST(DeviceCheck, OtherwiseEachAdapterWillDo) {
  const std::array devices = {kGood, kPoor};
  EXPECT_TRUE(check_devices({.new_key = false}, devices));
  EXPECT_TRUE(check_devices({.new_key = true}, std::span(devices).first(1)));
  EXPECT_TRUE(check_devices({.new_key = true}, {})) << "listening says what is missing then";
}

}  // namespace
}  // namespace rnbd::rtrs::test
