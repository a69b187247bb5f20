// SPDX-License-Identifier: Apache-2.0
// What `doctor` finds on hosts that lack something.
#include "cli/doctor.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/temp_directory.h"

namespace rnbd::cli {
namespace {

using testing::HasSubstr;

class Doctor : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = root_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  /// A host that has everything.
  void build_host() {
    write("sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
    write("dev/infiniband/rdma_cm", "");
    write("proc/self/limits", "Max locked memory         unlimited            unlimited   bytes\n");
    write("proc/sys/kernel/osrelease", "6.1.0\n");
    write("lib/modules/6.1.0/modules.dep", "kernel/drivers/block/nbd.ko:\n");
    write("usr/lib/udev/rules.d/60-rnbd.rules", "");
  }

  /// "verdict check" for all that is not fine.
  std::string complaints() {
    std::vector<Finding> all = examine_rdma(root_);
    for (const auto& more : {examine_nbd(root_), examine_rivals(root_)}) {
      all.insert(all.end(), more.begin(), more.end());
    }
    exit_ = exit_of(all);
    text_ = findings_text(all);
    std::string complaints;
    for (const Finding& finding : all) {
      if (finding.verdict == Verdict::Ok) continue;
      complaints +=
          (finding.verdict == Verdict::Failed ? "failed " : "warning ") + finding.check + ' ';
    }
    return complaints;
  }

  test::TempDirectory directory_;
  std::filesystem::path root_ = directory_.path();
  int exit_ = -1;
  std::string text_;
};

TEST_F(Doctor, HasNothingToSayOfAHostThatHasEverything) {
  build_host();
  EXPECT_EQ(complaints(), "");
  EXPECT_EQ(exit_, 0);
  EXPECT_THAT(text_, HasSubstr("ok       rdma      rxe0 port 1 is 4: ACTIVE\n"));
}

TEST_F(Doctor, SaysWhatAnEmptyHostLacks) {
  EXPECT_EQ(complaints(), "failed rdma failed rdma_cm warning memory failed nbd warning udev ");
  EXPECT_EQ(exit_, 1);
  EXPECT_THAT(text_, HasSubstr("FAILED   rdma_cm   /dev/infiniband/rdma_cm is missing\n"
                               "                   modprobe rdma_ucm\n"));
}

TEST_F(Doctor, WarnsOfALinkThatIsDown) {
  build_host();
  write("sys/class/infiniband/rxe0/ports/1/state", "1: DOWN\n");
  EXPECT_EQ(complaints(), "warning rdma ");
  EXPECT_EQ(exit_, 0);
}

TEST_F(Doctor, MissesTheDriver) {
  build_host();
  write("lib/modules/6.1.0/modules.dep", "kernel/drivers/block/loop.ko:\n");
  EXPECT_EQ(complaints(), "failed nbd ");
  write("lib/modules/6.1.0/modules.builtin", "kernel/drivers/block/nbd.ko\n");
  EXPECT_EQ(complaints(), "");
}

TEST_F(Doctor, WarnsOfLimitsAndRivals) {
  build_host();
  write("proc/self/limits", "Max locked memory         8388608              8388608   bytes\n");
  write("sys/module/rnbd_server/version", "");
  EXPECT_EQ(complaints(), "warning memory warning port ");
}

TEST_F(Doctor, SaysTheSameInJson) {
  const auto json = findings_json({{"udev", Verdict::Warning, "no rules", "install them"}});
  EXPECT_EQ(json.dump(), R"({"schema_version":1,"findings":[{"check":"udev","verdict":"warning",)"
                         R"("text":"no rules","hint":"install them"}]})");
}

}  // namespace
}  // namespace rnbd::cli
