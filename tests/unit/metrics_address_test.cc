// SPDX-License-Identifier: Apache-2.0
// Where metrics may be had: on this host alone.
#include "common/metrics_address.h"

#include <cerrno>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rnbd {
namespace {

using testing::HasSubstr;

TEST(MetricsAddress, IsOfTheLoopbackOrASocket) {
  const auto v4 = parse_metrics_address("127.0.0.1:9870");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->ip, "127.0.0.1");
  EXPECT_EQ(v4->port, 9870);
  const auto v6 = parse_metrics_address("[::1]:9871");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->ip, "::1");
  EXPECT_EQ(v6->port, 9871);
  EXPECT_EQ(parse_metrics_address("unix:/run/m.sock")->path, "/run/m.sock");
  EXPECT_TRUE(check_metrics_listen(""));
  EXPECT_TRUE(check_metrics_listen("127.3.2.1:1"));
}

TEST(MetricsAddress, ThatOthersReachIsRefused) {
  for (const char* text : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[fe80::1]:1"}) {
    const Status status = check_metrics_listen(text);
    ASSERT_FALSE(status) << text;
    EXPECT_THAT(status.error().message, HasSubstr("of the loopback alone")) << text;
  }
}

TEST(MetricsAddress, ThatIsNoneIsRefused) {
  for (const char* text :
       {"9870", "localhost:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
        "127.0.0.1:1x", "::1:1", "[127.0.0.1]:1", "unix:", "unix:m"}) {
    const Status status = check_metrics_listen(text);
    ASSERT_FALSE(status) << text;
    EXPECT_EQ(status.error().code, EINVAL);
    EXPECT_THAT(status.error().message, HasSubstr("metrics_listen must be")) << text;
  }
  EXPECT_THAT(check_metrics_listen("unix:/" + std::string(200, 'x')).error().message,
              HasSubstr("may have 107 bytes"));
}

}  // namespace
}  // namespace rnbd
