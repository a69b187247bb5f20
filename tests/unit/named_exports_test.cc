// SPDX-License-Identifier: Apache-2.0
// Exports by name, and draining: what the administrator says, before any client asks.
#include "server/named_exports.h"

#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "server/drain.h"

namespace rnbd::server {
namespace {

NamedExport disk(const std::string& name, const std::string& path = "/dev/vg/a") {
  return {.name = name, .path = path, .read_only = false};
}

int code_of(const auto& outcome) { return outcome ? 0 : outcome.error().code; }

TEST(NamedExports, AreFoundByTheirNames) {
  NamedExports exports;
  exports.configure({disk("vol1", "/dev/vg/1")});
  ASSERT_TRUE(exports.add(disk("vol2", "/dev/vg/2"), ExportOrigin::Added));
  EXPECT_EQ(exports.find("vol1")->disk.path, "/dev/vg/1");
  EXPECT_EQ(exports.find("vol2")->origin, ExportOrigin::Added);
  EXPECT_EQ(exports.find("vol"), nullptr);
  EXPECT_EQ(exports.list().size(), 2U);
}

TEST(NamedExports, ANameIsUsedOnce) {
  NamedExports exports;
  exports.configure({disk("vol1")});
  EXPECT_EQ(code_of(exports.add(disk("vol1"), ExportOrigin::Added)), EEXIST);
  ASSERT_TRUE(exports.add(disk("vol2"), ExportOrigin::Temporary));
  EXPECT_EQ(code_of(exports.add(disk("vol2"), ExportOrigin::Added)), EEXIST);
}

TEST(NamedExports, OnlyWhatWasAddedIsRemoved) {
  NamedExports exports;
  exports.configure({disk("vol1")});
  ASSERT_TRUE(exports.add(disk("vol2"), ExportOrigin::Added));
  EXPECT_EQ(code_of(exports.remove("vol1")), EPERM);
  EXPECT_EQ(code_of(exports.remove("vol2")), 0);
  EXPECT_EQ(code_of(exports.remove("vol2")), ENOENT);
  EXPECT_EQ(exports.list().size(), 1U);
}

TEST(NamedExports, WhatIsKeptIsWhatWasAddedForGood) {
  NamedExports exports;
  exports.configure({disk("vol1")});
  ASSERT_TRUE(exports.add(disk("vol2"), ExportOrigin::Added));
  ASSERT_TRUE(exports.add(disk("vol3"), ExportOrigin::Temporary));
  ASSERT_EQ(exports.added_for_good().size(), 1U);
  EXPECT_EQ(exports.added_for_good()[0].name, "vol2");
}

TEST(NamedExports, TheConfigurationReplacesWhatItSaidAndCountsMore) {
  NamedExports exports;
  exports.configure({disk("vol1"), disk("vol2")});
  ASSERT_TRUE(exports.add(disk("vol3", "/dev/added"), ExportOrigin::Added));
  exports.configure({disk("vol3", "/dev/configured")});
  EXPECT_EQ(exports.find("vol1"), nullptr);
  EXPECT_EQ(exports.find("vol3")->disk.path, "/dev/configured");
  exports.configure({});
  EXPECT_EQ(exports.find("vol3")->disk.path, "/dev/added");
}

TEST(NamedExports, WhatIsHiddenIsShownKeptAndCanBeRemoved) {
  NamedExports exports;
  exports.configure({disk("vol1", "/dev/configured")});
  exports.put_back({.disk = disk("/vol1", "/dev/added"), .origin = ExportOrigin::Added});
  ASSERT_EQ(exports.list().size(), 2U);
  EXPECT_EQ(exports.list()[0].disk.path, "/dev/configured");
  EXPECT_FALSE(exports.list()[0].hidden);
  EXPECT_EQ(exports.list()[1].disk.path, "/dev/added");
  EXPECT_TRUE(exports.list()[1].hidden);
  ASSERT_EQ(exports.added_for_good().size(), 1U) << "a state file keeps it";
  EXPECT_EQ(code_of(exports.add(disk("vol1"), ExportOrigin::Added)), EEXIST);
  const auto removed = exports.remove("vol1");
  ASSERT_TRUE(removed);
  EXPECT_TRUE(removed->hidden);
  EXPECT_EQ(exports.find("vol1")->disk.path, "/dev/configured");
  EXPECT_EQ(code_of(exports.remove("vol1")), EPERM) << "that is the configuration's";
  exports.configure({});
  EXPECT_EQ(exports.find("vol1"), nullptr);
}

TEST(NamedExports, ANameIsTheSameHoweverItIsSpelt) {
  NamedExports exports;
  ASSERT_TRUE(exports.add(disk("/img//one"), ExportOrigin::Added));
  EXPECT_NE(exports.find("./img/one"), nullptr);
  EXPECT_EQ(code_of(exports.add(disk("img/one"), ExportOrigin::Added)), EEXIST);
  EXPECT_EQ(code_of(exports.remove("img/./one")), 0);
  EXPECT_FALSE(check_export_name("/"));
}

TEST(NamedExports, NamesPathsAndAccessAreChecked) {
  EXPECT_TRUE(check_export_name("a b/c"));
  EXPECT_FALSE(check_export_name(""));
  EXPECT_FALSE(check_export_name("a\nb"));
  EXPECT_TRUE(check_export_name(std::string(254, 'x')));
  EXPECT_FALSE(check_export_name(std::string(256, 'x')));
  EXPECT_TRUE(check_export_path("/dev/vg/a"));
  EXPECT_FALSE(check_export_path("vg/a"));
  EXPECT_TRUE(*parse_export_access("ro"));
  EXPECT_FALSE(*parse_export_access("rw"));
  EXPECT_EQ(parse_export_access("wr").error().message,
            "access must be rw or ro, not 'wr'; did you mean 'rw'?");
}

TEST(Drain, CoversAllOrSome) {
  Drain drain;
  EXPECT_FALSE(drain.covers("blya"));
  drain.begin("blya", {});
  EXPECT_TRUE(drain.covers("blya"));
  EXPECT_FALSE(drain.covers("other"));
  EXPECT_FALSE(drain.all());
  drain.begin("", {});
  EXPECT_TRUE(drain.covers("other"));
  EXPECT_EQ(code_of(drain.end("blya")), EINVAL) << "all are drained";
  EXPECT_EQ(code_of(drain.end("")), 0);
  EXPECT_FALSE(drain.covers("blya"));
}

TEST(Drain, OpensNothingButWhatWasOpen) {
  Drain drain;
  EXPECT_TRUE(drain.may_open("blya", "new"));
  drain.begin("blya", {{"blya", "vol1"}, {"other", "vol2"}});
  EXPECT_FALSE(drain.may_open("blya", "new"));
  EXPECT_TRUE(drain.may_open("blya", "vol1")) << "its client may have lost the server meanwhile";
  EXPECT_FALSE(drain.may_open("blya", "vol2"));
  EXPECT_TRUE(drain.may_open("other", "new"));
  EXPECT_EQ(being_drained().error().code, ESHUTDOWN);
}

TEST(Drain, WhatHadSomethingOpenMayReturnUntilItIsFinished) {
  Drain drain;
  drain.begin("", {{"blya", "vol1"}});
  EXPECT_TRUE(drain.may_return("blya"));
  EXPECT_FALSE(drain.may_return("new"));
  drain.begin("", {{"blya", "vol1"}});
  drain.finish("");
  EXPECT_FALSE(drain.may_return("blya"));
  EXPECT_FALSE(drain.may_open("blya", "vol1"));
}

TEST(Drain, EndsForOneAlone) {
  Drain drain;
  drain.begin("blya", {{"blya", "vol1"}});
  drain.begin("other", {{"other", "vol1"}});
  EXPECT_EQ(code_of(drain.end("blya")), 0);
  EXPECT_FALSE(drain.covers("blya"));
  EXPECT_TRUE(drain.covers("other"));
  EXPECT_TRUE(drain.may_return("other"));
  EXPECT_EQ(code_of(drain.end("nobody")), 0);
}

}  // namespace
}  // namespace rnbd::server
