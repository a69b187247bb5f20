// SPDX-License-Identifier: Apache-2.0
// What the log says of clients that are refused again and again.
#include "transport/rtrs/refusal_log.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/log.h"
#include "sim/manual_control.h"

namespace rnbd::rtrs {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class Refusals : public testing::Test {
 protected:
  void refuse(const std::string& client, int code, const std::string& why = "no") {
    refusals_.tell(client, {code, why});
  }
  void pass(milliseconds time) {
    control_.context().advance(time);
    while (control_.context().run_once()) {
    }
  }
  /// What `act` logs.
  template <typename Act>
  std::string logged(Act act) {
    testing::internal::CaptureStderr();
    log::start("info");
    act();
    return testing::internal::GetCapturedStderr();
  }
  static auto lines(const std::string& text) { return std::ranges::count(text, '\n'); }

  sim::ManualControl control_;
  RefusalLog refusals_{control_};
};

TEST_F(Refusals, AThousandInASecondAreTwoLines) {
  const std::string text = logged([&] {
    for (int i = 0; i < 1000; ++i) refuse("ip:10.0.0.1", ENOMEM, fmt::format("for the {}th", i));
    pass(milliseconds(1500));
  });
  EXPECT_EQ(lines(text), 2) << text;
  EXPECT_THAT(text, HasSubstr("refused a connection of ip:10.0.0.1: for the 0th: "));
  EXPECT_THAT(text, HasSubstr("refused 999 more connections of ip:10.0.0.1, the last one: "
                              "for the 999th: "));
}

TEST_F(Refusals, OthersAndOtherReasonsAreNotHidden) {
  const std::string text = logged([&] {
    refuse("ip:10.0.0.1", ENOMEM);
    refuse("ip:10.0.0.2", ENOMEM);
    refuse("ip:10.0.0.1", EPERM);
  });
  EXPECT_EQ(lines(text), 3) << text;
}

TEST_F(Refusals, ALineASecondForAsLongAsItLasts) {
  const std::string text = logged([&] {
    for (int i = 0; i < 100; ++i) {
      refuse("ip:10.0.0.1", ENOMEM);
      pass(milliseconds(100));
    }
  });
  EXPECT_GE(lines(text), 9) << text;
  EXPECT_LE(lines(text), 12) << text;
}

TEST_F(Refusals, WhoComesBackLaterIsToldOfAtOnce) {
  static_cast<void>(logged([&] {
    refuse("ip:10.0.0.1", ENOMEM);
    pass(milliseconds(1500));
  }));
  EXPECT_EQ(lines(logged([&] { refuse("ip:10.0.0.1", ENOMEM); })), 1);
}

TEST_F(Refusals, AddressesThatAreMadeUpDoNotFillTheLogEither) {
  const std::string text = logged([&] {
    for (int i = 0; i < 5000; ++i) refuse(fmt::format("ip:fd00::{:x}", i), ENOMEM);
    pass(milliseconds(1500));
  });
  EXPECT_LE(lines(text), 70) << text;
  EXPECT_THAT(text, HasSubstr("more connections of others, the last one: "));
}

}  // namespace
}  // namespace rnbd::rtrs
