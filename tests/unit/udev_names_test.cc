// SPDX-License-Identifier: Apache-2.0
// Which links udev makes for a mapped disk.
#include "cli/udev_names.h"

#include <array>
#include <cerrno>
#include <set>

#include <gtest/gtest.h>

namespace rnbd::cli {
namespace {

std::string name_of(std::string_view backend) {
  const auto names = udev_names(backend);
  return names ? names->name : describe(names.error());
}

std::string id_of(std::string_view backend) {
  const auto names = udev_names(backend);
  return names ? names->id : describe(names.error());
}

TEST(UdevNames, AreTheSessionAndTheDevice) {
  EXPECT_EQ(name_of("rnbd:blya/vol1"), "blya/vol1");
  EXPECT_EQ(id_of("rnbd:blya/vol1"), "blya:vol1");
  EXPECT_EQ(name_of("rnbd:host@10-0-0-1//dev/vg/vol1"), "host@10-0-0-1/dev/vg/vol1");
  EXPECT_EQ(id_of("rnbd:host@10-0-0-1//dev/vg/vol1"), "host@10-0-0-1:dev:vg:vol1");
}

TEST(UdevNames, AreOneForWhatServersTakeForOneName) {
  for (const char* same : {"rnbd:s/a/b", "rnbd:s//a/b", "rnbd:s/a//b", "rnbd:s/a/b/"}) {
    EXPECT_EQ(name_of(same), "s/a/b") << same;
    EXPECT_EQ(id_of(same), "s:a:b") << same;
  }
}

TEST(UdevNames, HoldNoByteThatUdevWouldChange) {
  EXPECT_EQ(name_of("rnbd:s/a b\\x2f%n$é"), "s/a\\x20b\\x5cx2f\\x25n\\x24\\xc3\\xa9");
  EXPECT_EQ(name_of("rnbd:s:1235/a:b"), "s:1235/a:b");
  EXPECT_EQ(id_of("rnbd:s:1235/a:b"), "s\\x3a1235:a\\x3ab");
}

TEST(UdevNames, LeadNowhereElse) {
  EXPECT_EQ(name_of("rnbd:s/../../sda"), "s/\\x2e\\x2e/\\x2e\\x2e/sda");
  EXPECT_EQ(name_of("rnbd:../sda"), "\\x2e\\x2e/sda");
  EXPECT_EQ(name_of("rnbd:s/./a..b"), "s/\\x2e/a..b");
}

TEST(UdevNames, AreNoPartitionsName) {
  EXPECT_EQ(name_of("rnbd:s/vol-part1"), "s/vol\\x2dpart1");
  EXPECT_EQ(id_of("rnbd:s/a:-part12"), "s:a\\x3a\\x2dpart12");
  EXPECT_EQ(name_of("rnbd:s/vol-part"), "s/vol-part");
  EXPECT_EQ(name_of("rnbd:s/-part1x"), "s/-part1x");
}

TEST(UdevNames, DifferWhereDisksDiffer) {
  std::set<std::string> names;
  std::set<std::string> ids;
  constexpr std::array kDisks = {"rnbd:s/a/b",     "rnbd:s/a:b",     "rnbd:s/a\\x3ab",
                                 "rnbd:s:a/b",     "rnbd:s/a b",     "rnbd:s/a_b",
                                 "rnbd:s/a-b",     "rnbd:s/a\\x20b", "rnbd:s/a/./b",
                                 "rnbd:s/\\x2e/b", "rnbd:s/./b"};
  for (const char* disk : kDisks) {
    names.insert(name_of(disk));
    ids.insert(id_of(disk));
  }
  EXPECT_EQ(names.size(), kDisks.size());
  EXPECT_EQ(ids.size(), kDisks.size());
}

TEST(UdevNames, AreNotMadeOfOtherBackends) {
  for (const char* other : {"", "rnbd:", "rnbd:s", "rnbd:/a", "rnbd:s/", "rnbd:s//", "qemu:s/a"}) {
    const auto names = udev_names(other);
    ASSERT_FALSE(names) << other;
    EXPECT_EQ(names.error().code, EINVAL);
  }
}

}  // namespace
}  // namespace rnbd::cli
