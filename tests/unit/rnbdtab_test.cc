// SPDX-License-Identifier: Apache-2.0
// What a line of rnbdtab means, and where and why one is wrong.
#include "client/rnbdtab.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rnbd::client {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string why_not(std::string_view text) {
  const auto entries = parse_rnbdtab(text, "host");
  if (entries) return "nothing is wrong";
  EXPECT_EQ(entries.error().code, EINVAL);
  return entries.error().message;
}

TEST(Rnbdtab, HasALineForEachMapping) {
  const auto entries = parse_rnbdtab(
      "# NAME SERVER DEVICE_PATH OPTIONS\n"
      "\n"
      "vol1\tip:10.0.0.1  vol1\n"
      "  logs gid:fe80::1 logs access_mode=ro,nofail,_netdev # kept for a year\n"
      "v2   blya        /dev/vg/v2 path=ip:10.0.0.1,path=ip:10.1.0.1,noauto",
      "host");
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 3U);
  const TabEntry& first = entries->at(0);
  EXPECT_EQ(first.name, "vol1");
  EXPECT_EQ(first.line, 3U);
  EXPECT_THAT(first.words, ElementsAre("server=ip:10.0.0.1", "device_path=vol1"));
  EXPECT_EQ(first.session_name, "host@10-0-0-1");
  EXPECT_TRUE(first.automatic);
  EXPECT_TRUE(first.needed);
  const TabEntry& second = entries->at(1);
  EXPECT_THAT(second.words, Contains("access_mode=ro"));
  EXPECT_FALSE(second.needed);
  const TabEntry& third = entries->at(2);
  EXPECT_THAT(third.words, ElementsAre("sessname=blya", "device_path=/dev/vg/v2",
                                       "path=ip:10.0.0.1", "path=ip:10.1.0.1"));
  EXPECT_FALSE(third.automatic);
}

TEST(Rnbdtab, MayBeEmpty) {
  EXPECT_TRUE(parse_rnbdtab("", "host")->empty());
  EXPECT_TRUE(parse_rnbdtab("\n # nothing\n\t\n", "host")->empty());
}

TEST(Rnbdtab, TakesFstabsEscapes) {
  const auto entries = parse_rnbdtab("a ip:10.0.0.1 a\\040b\\134c\\0z defaults\n", "host");
  ASSERT_TRUE(entries) << entries.error().message;
  EXPECT_EQ(entries->front().device_path, "a b\\c\\0z");
}

TEST(Rnbdtab, SaysWhereAndWhyALineIsWrong) {
  EXPECT_THAT(why_not("a ip:10.0.0.1\n"), StartsWith("1:3: column 3 is missing: DEVICE_PATH"));
  EXPECT_THAT(why_not("a\n"), StartsWith("1:1: column 2 is missing: SERVER"));
  EXPECT_THAT(why_not("\na s d o=1 x"), StartsWith("2:11: a fifth column"));
  EXPECT_THAT(why_not("a/b ip:10.0.0.1 d"), StartsWith("1:1: 'a/b' is no name"));
  EXPECT_THAT(why_not("a ip:10.0.0.1 d nofial"),
              StartsWith("1:17: unknown option 'nofial'; did you mean 'nofail'?"));
  EXPECT_THAT(why_not("a ip:10.0.0.1 d noauto,acces_mode=ro"), HasSubstr("access_mode"));
  EXPECT_THAT(why_not("a ip:300.0.0.1 d"), StartsWith("1:3: 'server=ip:300.0.0.1'"));
}

TEST(Rnbdtab, NobodyIsMappedTwice) {
  EXPECT_THAT(why_not("a ip:10.0.0.1 d\na ip:10.0.0.1 e\n"), StartsWith("2:1: 'a' is in line 1"));
  EXPECT_THAT(why_not("a ip:10.0.0.1 d\nb ip:10.0.0.1 d\n"), StartsWith("2:15: line 1 maps the"));
}

}  // namespace
}  // namespace rnbd::client
