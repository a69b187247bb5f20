// SPDX-License-Identifier: Apache-2.0
// Who may open what: the kernel's access rules over sessions, ids, and the ends of exports.
#include "server/exports.h"

#include <cerrno>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "unit/test_disk.h"

namespace rnbd::server {
namespace {

using wire::AccessMode;
using wire::IoMode;

constexpr Exports::Session kAlice{1, "alice"};
constexpr Exports::Session kBob{2, "bob"};
constexpr Exports::Session kCarol{3, "carol"};

class ExportsTable : public testing::Test {
 protected:
  ExportsTable() { (void)directory_.make_file("disk", 1 << 20); }

  Result<Export*> open(const Exports::Session& session, AccessMode access,
                       const std::string& name = "disk") {
    return exports_.open(session, name, static_cast<std::uint8_t>(access),
                         static_cast<std::uint8_t>(IoMode::ServerDefault));
  }
  /// 0, or the errno of open().
  int try_open(const Exports::Session& session, AccessMode access,
               const std::string& name = "disk") {
    const auto opened = open(session, access, name);
    return opened ? 0 : opened.error().code;
  }

  Exports::Refused adopt(const std::filesystem::path& search_path,
                         const std::vector<NamedExport>& configured) {
    Exports::Meaning meaning{*SearchPath::create(search_path.string()), configured};
    return exports_.adopt(meaning);
  }
  /// 0, or the errno of may_mean().
  int may_mean(const std::string& name, const std::filesystem::path& disk) {
    const Status may = exports_.may_mean(name, test::find_disk(disk.string()));
    return may ? 0 : may.error().code;
  }

  test::TempDirectory directory_;
  TimePoint now_{std::chrono::hours(1)};
  Exports exports_{*SearchPath::create(directory_.path().string()),
                   [](const Export&, ExportState) {}, [this] { return now_; }};
};

TEST_F(ExportsTable, ReadersAreUnlimited) {
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadOnly), 0);
  EXPECT_EQ(try_open(kCarol, AccessMode::ReadWrite), 0);
}

TEST_F(ExportsTable, ReadersMayComeAfterAWriter) {
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadOnly), 0);
}

TEST_F(ExportsTable, ThereIsOneWriter) {
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite), EPERM);
}

TEST_F(ExportsTable, MigrationLetsASecondWriterInAndNoThird) {
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::Migration), 0);
  EXPECT_EQ(try_open(kCarol, AccessMode::Migration), EPERM);
  EXPECT_EQ(try_open(kCarol, AccessMode::ReadWrite), EPERM);
  EXPECT_EQ(try_open(kCarol, AccessMode::ReadOnly), 0);
}

TEST_F(ExportsTable, MigrationMayBeTheFirstWriter) {
  EXPECT_EQ(try_open(kAlice, AccessMode::Migration), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite), EPERM);
  EXPECT_EQ(try_open(kBob, AccessMode::Migration), 0);
}

TEST_F(ExportsTable, WritersAreCountedByDiskNotByName) {
  std::filesystem::create_symlink("disk", directory_.path() / "alias");
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite, "disk"), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite, "alias"), EPERM);
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite, "alias"), EPERM);
}

TEST_F(ExportsTable, AWritersPlaceIsFreeOnceItHasClosed) {
  const auto alice = open(kAlice, AccessMode::ReadWrite);
  ASSERT_TRUE(alice);
  const std::uint32_t id = (*alice)->device_id;
  exports_.begin_close(kAlice.id, id);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite), EPERM) << "its last writes are still on the way";
  exports_.close(kAlice.id, id);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite), 0);
}

TEST_F(ExportsTable, AFailedOpenTakesNoWritersPlace) {
  (void)directory_.make_file("empty", 0);
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite, "empty"), EINVAL);
  std::filesystem::resize_file(directory_.path() / "empty", 4096);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite, "empty"), 0);
}

TEST_F(ExportsTable, RefusesUnknownModes) {
  const auto access = exports_.open(kAlice, "disk", 3, 0);
  ASSERT_FALSE(access);
  EXPECT_EQ(access.error().code, EINVAL);
  const auto io_mode = exports_.open(kAlice, "disk", 0, 3);
  ASSERT_FALSE(io_mode);
  EXPECT_EQ(io_mode.error().code, EINVAL);
  EXPECT_TRUE(exports_.list().empty());
}

TEST_F(ExportsTable, PassesErrorsOfNamesOn) {
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "nothing"), ENOENT);
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "../disk"), EINVAL);
}

TEST_F(ExportsTable, ANameOpenedAgainAnswersTheSameExport) {
  const auto first = open(kAlice, AccessMode::ReadWrite);
  ASSERT_TRUE(first);
  const auto again = exports_.open(kAlice, "disk", 77, 77);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *first);
  EXPECT_EQ((*again)->access, AccessMode::ReadWrite);
  EXPECT_EQ(exports_.list().size(), 1U);
}

TEST_F(ExportsTable, IdsCountFromZeroInEachSessionAndAreUsedAgainLast) {
  (void)directory_.make_file("other", 4096);
  EXPECT_EQ((*open(kAlice, AccessMode::ReadOnly, "disk"))->device_id, 0U);
  EXPECT_EQ((*open(kAlice, AccessMode::ReadOnly, "other"))->device_id, 1U);
  EXPECT_EQ((*open(kBob, AccessMode::ReadOnly, "other"))->device_id, 0U);
  exports_.close(kAlice.id, 0);
  EXPECT_EQ(exports_.find(kAlice.id, 0), nullptr);
  for (std::uint32_t id = 2; id < limits::kMaxDevicesPerSession; ++id) {
    ASSERT_EQ((*open(kAlice, AccessMode::ReadOnly, "disk"))->device_id, id);
    exports_.close(kAlice.id, id);
  }
  EXPECT_EQ((*open(kAlice, AccessMode::ReadOnly, "disk"))->device_id, 0U);
}

TEST_F(ExportsTable, ASessionHasSoManyIds) {
  for (std::uint32_t i = 0; i < limits::kMaxDevicesPerSession; ++i) {
    const std::string name = fmt::format("disk{}", i);
    std::filesystem::create_hard_link(directory_.path() / "disk", directory_.path() / name);
    ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly, name), 0) << i;
  }
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "disk"), ENOSPC);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadOnly, "disk"), 0);
}

TEST_F(ExportsTable, ClosingFreesTheNameAtOnceAndTheIdLater) {
  const auto first = open(kAlice, AccessMode::ReadOnly);
  ASSERT_TRUE(first);
  exports_.begin_close(kAlice.id, 0);
  EXPECT_EQ(exports_.find(kAlice.id, 0)->state, ExportState::Closing);
  const auto second = open(kAlice, AccessMode::ReadOnly);
  ASSERT_TRUE(second);
  EXPECT_EQ((*second)->device_id, 1U);
}

TEST_F(ExportsTable, ForcedCloseKeepsTheIdAndNothingElse) {
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadWrite), 0);
  exports_.force_close(kAlice.id, 0);
  const Export* closed = exports_.find(kAlice.id, 0);
  ASSERT_NE(closed, nullptr);
  EXPECT_EQ(closed->state, ExportState::Closed);
  EXPECT_FALSE(closed->backend);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite), 0);
  const auto again = open(kAlice, AccessMode::ReadOnly);
  ASSERT_TRUE(again);
  EXPECT_EQ((*again)->device_id, 1U);
  exports_.close(kAlice.id, 0);
  EXPECT_EQ(exports_.find(kAlice.id, 0), nullptr);
}

TEST_F(ExportsTable, ClosingASessionClosesAllItHasAndNothingElse) {
  (void)directory_.make_file("other", 4096);
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadWrite, "disk"), 0);
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadWrite, "other"), 0);
  ASSERT_EQ(try_open(kBob, AccessMode::ReadOnly, "disk"), 0);
  exports_.force_close(kAlice.id, 1);
  exports_.close_session(kAlice.id);
  const auto left = exports_.list();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0]->session_name, "bob");
  EXPECT_EQ(try_open(kCarol, AccessMode::ReadWrite, "disk"), 0);
  EXPECT_EQ(try_open(kCarol, AccessMode::ReadWrite, "other"), 0);
}

TEST_F(ExportsTable, ClosingWhatIsNotThereIsFine) {
  exports_.begin_close(kAlice.id, 7);
  exports_.close(kAlice.id, 7);
  exports_.force_close(kAlice.id, 7);
  exports_.close_session(kAlice.id);
  EXPECT_TRUE(exports_.list().empty());
}

TEST_F(ExportsTable, RevalidatingFindsWhatHasAnotherSize) {
  (void)directory_.make_file("other", 1 << 20);
  const std::string disk = (directory_.path() / "disk").string();
  ASSERT_TRUE(open(kAlice, AccessMode::ReadWrite));
  ASSERT_TRUE(open(kBob, AccessMode::ReadOnly));
  ASSERT_TRUE(open(kBob, AccessMode::ReadOnly, "other"));
  ASSERT_TRUE(open(kCarol, AccessMode::ReadOnly));
  exports_.begin_close(kCarol.id, 0);
  EXPECT_TRUE(exports_.revalidate()->empty());
  std::filesystem::resize_file(disk, 2 << 20);
  EXPECT_TRUE(exports_.revalidate((directory_.path() / "other").string())->empty());
  const auto grown = exports_.revalidate(disk);
  ASSERT_TRUE(grown);
  ASSERT_EQ(grown->size(), 2U) << "both that have it open, and not who is closing it";
  for (const auto& [entry, was_bytes] : *grown) {
    EXPECT_EQ(entry->device_path, disk);
    EXPECT_EQ(was_bytes, 1U << 20);
    EXPECT_EQ(entry->size_bytes, 2U << 20);
    EXPECT_EQ(entry->backend->limits().sectors, (2U << 20) / 512);
  }
  EXPECT_TRUE(exports_.revalidate()->empty()) << "once";
  const auto nobody = exports_.revalidate("/dev/null");
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, ENOENT);
}

TEST_F(ExportsTable, NamesAreLookedUpBeforeTheSearchPathAndLieAnywhere) {
  const test::TempDirectory elsewhere;
  const std::string path = elsewhere.make_file("other", 2 << 20).string();
  exports_.named().configure({{.name = "disk", .path = path, .read_only = false}});
  const auto opened = open(kAlice, AccessMode::ReadWrite);
  ASSERT_TRUE(opened);
  EXPECT_EQ((*opened)->device_path, path);
  EXPECT_TRUE((*opened)->named);
  EXPECT_EQ((*opened)->size_bytes, 2U << 20);
  exports_.named().configure({});
  EXPECT_EQ((*open(kAlice, AccessMode::ReadWrite))->device_path, path) << "it is open already";
  const auto below = open(kBob, AccessMode::ReadWrite);
  ASSERT_TRUE(below);
  EXPECT_EQ((*below)->device_path, (directory_.path() / "disk").string());
  EXPECT_FALSE((*below)->named);
}

TEST_F(ExportsTable, AReadOnlyNameHasNoWriters) {
  const std::string path = (directory_.path() / "disk").string();
  exports_.named().configure({{.name = "frozen", .path = path, .read_only = true}});
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadWrite, "frozen"), EROFS);
  EXPECT_EQ(try_open(kAlice, AccessMode::Migration, "frozen"), EROFS);
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "frozen"), 0);
  EXPECT_EQ(try_open(kBob, AccessMode::ReadWrite), 0) << "under its other name";
}

TEST_F(ExportsTable, ANameWhoseDiskIsGoneIsAnError) {
  exports_.named().configure({{.name = "gone", .path = "/nowhere/disk", .read_only = false}});
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "gone"), ENOENT);
  exports_.named().configure({{.name = "gone", .path = "/tmp", .read_only = false}});
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "gone"), ENOTBLK);
}

TEST_F(ExportsTable, ASessionThatIsDrainedOpensNothingNew) {
  (void)directory_.make_file("other", 4096);
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  exports_.drain().begin("alice", {{"alice", "disk"}});
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "other"), ESHUTDOWN);
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0) << "is open";
  exports_.close(kAlice.id, 0);
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0) << "was open when it began";
  EXPECT_EQ(try_open(kBob, AccessMode::ReadOnly, "other"), 0);
  ASSERT_TRUE(exports_.drain().end("alice"));
  EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "other"), 0);
}

TEST_F(ExportsTable, TheSearchPathMayChange) {
  const test::TempDirectory elsewhere;
  (void)elsewhere.make_file("disk", 4096);
  ASSERT_EQ(adopt(elsewhere.path(), {}).search_path, "");
  EXPECT_EQ((*open(kBob, AccessMode::ReadWrite))->size_bytes, 4096U);
}

TEST_F(ExportsTable, NoSearchPathLeadsAClientToAnotherDisk) {
  const test::TempDirectory elsewhere;
  (void)elsewhere.make_file("disk", 4096);
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadWrite), 0);
  const std::string own = (directory_.path() / "disk").string();
  EXPECT_EQ(adopt(elsewhere.path(), {{.name = "new", .path = own}}).search_path,
            fmt::format("disk stays {}, and is not {}/disk: alice has it open", own,
                        elsewhere.path().string()));
  EXPECT_EQ((*open(kBob, AccessMode::ReadOnly))->size_bytes, 1U << 20);
  EXPECT_NE(exports_.named().find("new"), nullptr) << "all else is in force";
  std::filesystem::remove(elsewhere.path() / "disk");
  EXPECT_EQ(adopt(elsewhere.path(), {}).search_path, "") << "nothing is not another disk";
}

TEST_F(ExportsTable, NoConfigurationLeadsAClientToAnotherDisk) {
  const std::string one = directory_.make_file("one", 4096).string();
  const std::string two = directory_.make_file("two", 4096).string();
  adopt(directory_.path(), {{.name = "vol", .path = one}, {.name = "idle", .path = one}});
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly, "/vol"), 0);
  const std::vector<NamedExport> wanted = {
      {.name = "vol", .path = two}, {.name = "idle", .path = two}, {.name = "disk", .path = two}};
  EXPECT_THAT(adopt(directory_.path(), wanted).exports,
              testing::ElementsAre(
                  fmt::format("/vol stays {}, and is not {}: alice has it open", one, two)));
  EXPECT_EQ(exports_.named().find("vol")->disk.path, one);
  EXPECT_EQ(exports_.named().find("idle")->disk.path, two) << "the rest is in force";
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly, "disk"), 0);

  // Nor by taking a name away, or by giving one to what was found without.
  EXPECT_EQ(adopt(directory_.path(), {{.name = "vol", .path = one}}).exports.size(), 1U)
      << "below the search path disk is another one";
  EXPECT_EQ(exports_.named().find("disk")->disk.path, two);
  EXPECT_EQ(adopt(directory_.path(), {{.name = "disk", .path = two}}).exports.size(), 0U)
      << "vol is nothing then";
  EXPECT_EQ(adopt(directory_.path(), {{.name = "vol", .path = "/not/yet"}}).exports.size(), 2U)
      << "what is not there may come";
  exports_.close(kAlice.id, 0);
  exports_.close(kAlice.id, 1);
  EXPECT_EQ(adopt(directory_.path(), {}).exports.size(), 0U) << "nobody has it open any more";
}

TEST_F(ExportsTable, ANameThatIsOpenMayNotMeanAnotherDisk) {
  const std::string other = directory_.make_file("other", 4096).string();
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  EXPECT_EQ(may_mean("/disk", other), EBUSY);
  EXPECT_EQ(may_mean("disk", directory_.path() / "disk"), 0) << "it is that one";
  EXPECT_EQ(may_mean("free", other), 0);
  EXPECT_EQ(exports_.may_mean("disk", test::find_disk(other)).error().message,
            fmt::format("disk is open, as another disk: alice has {}/disk\n"
                        "unmap it there, or take another name",
                        directory_.path().string()));
  exports_.begin_close(kAlice.id, 0);
  EXPECT_EQ(may_mean("disk", other), 0) << "its client has let it go";
}

TEST_F(ExportsTable, NorOneWhoseClientWasLostUntilItIsNotAwaitedAnyMore) {
  const std::string other = directory_.make_file("other", 4096).string();
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  exports_.close_session(kAlice.id);
  EXPECT_EQ(may_mean("disk", other), EBUSY);
  EXPECT_THAT(exports_.relying_on("disk"), testing::ElementsAre("alice"));
  now_ += limits::kKeepMemory - std::chrono::seconds(1);
  EXPECT_EQ(may_mean("disk", other), EBUSY);
  now_ += std::chrono::seconds(1);
  EXPECT_EQ(may_mean("disk", other), 0);
  EXPECT_TRUE(exports_.lost().empty());
}

TEST_F(ExportsTable, WhoCameBackAndLetItGoIsNotAwaited) {
  const std::string other = directory_.make_file("other", 4096).string();
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  exports_.close_session(kAlice.id);
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  exports_.begin_close(kAlice.id, 0);
  exports_.close(kAlice.id, 0);
  EXPECT_EQ(may_mean("disk", other), 0);
}

TEST_F(ExportsTable, WhoAsksInVainForWhatWasClosedByForceReliesOnIt) {
  const std::string other = directory_.make_file("other", 4096).string();
  ASSERT_TRUE(exports_.named().add({.name = "vol", .path = other}, ExportOrigin::Added));
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly, "vol"), 0);
  ASSERT_TRUE(exports_.named().remove("vol"));
  exports_.force_close(kAlice.id, 0);
  EXPECT_EQ(may_mean("vol", directory_.path() / "disk"), EBUSY);
  exports_.close(kAlice.id, 0);  // the id is given back, and the client asks again
  for (int i = 0; i < 3; ++i) {
    now_ += limits::kKeepMemory - std::chrono::seconds(1);
    EXPECT_EQ(may_mean("vol", directory_.path() / "disk"), EBUSY) << i;
    EXPECT_EQ(try_open(kAlice, AccessMode::ReadOnly, "vol"), ENOENT);
  }
  EXPECT_EQ(may_mean("vol", other), 0);
  now_ += limits::kKeepMemory;
  EXPECT_EQ(may_mean("vol", directory_.path() / "disk"), 0) << "it asks no more";
}

TEST_F(ExportsTable, ANameDoesNotEndWhereAnotherDiskIsBelow) {
  const std::string other = directory_.make_file("other", 4096).string();
  ASSERT_TRUE(exports_.named().add({.name = "disk", .path = other}, ExportOrigin::Added));
  EXPECT_TRUE(exports_.may_end("disk")) << "nobody has it open";
  ASSERT_EQ(try_open(kAlice, AccessMode::ReadOnly), 0);
  EXPECT_EQ(exports_.may_end("disk").error().code, EBUSY);
  std::filesystem::remove(directory_.path() / "disk");
  EXPECT_TRUE(exports_.may_end("disk"));
}

TEST_F(ExportsTable, ListsWhatPeopleAskFor) {
  std::filesystem::create_symlink("disk", directory_.path() / "alias");
  const auto before = std::chrono::system_clock::now();
  const auto opened = exports_.open(kAlice, "/alias", 1, 2);
  ASSERT_TRUE(opened);
  const auto all = exports_.list();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0]->device_path, (directory_.path() / "disk").string());
  EXPECT_EQ(all[0]->mapping_path, "/alias");
  EXPECT_EQ(all[0]->session_name, "alice");
  EXPECT_EQ(all[0]->access, AccessMode::ReadWrite);
  EXPECT_EQ(all[0]->io_mode, IoMode::FileIo);
  EXPECT_EQ(all[0]->size_bytes, 1U << 20);
  EXPECT_EQ(all[0]->state, ExportState::Open);
  EXPECT_GE(all[0]->since, before);
}

TEST(ExportsOnBlockDevice, WritersClaimTheDeviceTogether) {
  RNBD_REQUIRE_BLOCK_DEVICE();
  const std::string name = *test::block_device();
  const FoundDisk disk = test::find_disk(name);
  Exports exports(*SearchPath::create("/"));
  ASSERT_TRUE(exports.open(kAlice, name, 0, 0));
  EXPECT_TRUE(claim_for_writing(disk)) << "a reader claims nothing";
  ASSERT_TRUE(exports.open(kBob, name, 1, 0));
  ASSERT_TRUE(exports.open(kCarol, name, 2, 0)) << "the claim is the server's, not the session's";
  EXPECT_FALSE(claim_for_writing(disk));
  exports.close_session(kBob.id);
  EXPECT_FALSE(claim_for_writing(disk)) << "one writer is left";
  exports.close_session(kCarol.id);
  EXPECT_TRUE(claim_for_writing(disk));
}

TEST(ExportsOnBlockDevice, RefusesToWriteWhatIsInUseHere) {
  RNBD_REQUIRE_BLOCK_DEVICE();
  const std::string name = *test::block_device();
  const auto in_use = claim_for_writing(test::find_disk(name));
  ASSERT_TRUE(in_use);
  Exports exports(*SearchPath::create("/"));
  const auto writer = exports.open(kAlice, name, 1, 0);
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code, EBUSY);
  EXPECT_TRUE(exports.open(kAlice, name, 0, 0));
}

}  // namespace
}  // namespace rnbd::server
