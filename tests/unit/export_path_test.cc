// SPDX-License-Identifier: Apache-2.0
// Names that clients send against a directory tree: what is found, and above all what is not.
#include "server/export_path.h"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/unique_fd.h"
#include "unit/temp_directory.h"

namespace rnbd::server {
namespace {

namespace fs = std::filesystem;

class ExportPath : public testing::Test {
 protected:
  static SearchPath search(const std::string& path) {
    auto created = SearchPath::create(path);
    EXPECT_TRUE(created);
    return std::move(*created);
  }

  /// What find() answers: the path, or the name of the errno.
  [[nodiscard]] std::string find(const std::string& name, const std::string& session = "host") {
    return find_below(tree_.string(), name, session);
  }
  [[nodiscard]] static std::string find_below(const std::string& path, const std::string& name,
                                              const std::string& session = "host") {
    const auto found = search(path).find(session, name);
    return found ? found->path() : errno_name(found.error().code);
  }

  [[nodiscard]] std::string in_tree(const std::string& name) const {
    return (tree_ / name).string();
  }

  test::TempDirectory outer_;
  fs::path secret_ = outer_.make_file("secret", 512);
  fs::path disk_ = outer_.make_file("tree/disk", 512);
  fs::path deep_ = outer_.make_file("tree/a/b/deep", 512);
  fs::path tree_ = outer_.path() / "tree";
};

TEST_F(ExportPath, FindsFilesBelowTheSearchPath) {
  EXPECT_EQ(find("disk"), disk_);
  EXPECT_EQ(find("/disk"), disk_);
  EXPECT_EQ(find("a/b/deep"), deep_);
  EXPECT_EQ(find("./a/./b/deep"), deep_);
}

TEST_F(ExportPath, KnowsHowLargeAFileIsNow) {
  const auto found = search(tree_).find("host", "disk");
  ASSERT_TRUE(found);
  EXPECT_EQ(size_of(*found), 512U);
  fs::resize_file(disk_, 4096);
  EXPECT_EQ(size_of(*found), 4096U);
  fs::remove(disk_);
  EXPECT_EQ(size_of(*found).error().code, ENOENT);
}

TEST_F(ExportPath, KnowsHowLargeADeviceIs) {
  unsigned known = 0;
  for (const auto& device : fs::directory_iterator("/sys/class/block")) {
    const std::string path = "/dev/" + device.path().filename().string();
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) continue;  // not ours to read, or without a medium
    const auto found = search("/dev").find("host", device.path().filename().string());
    ASSERT_TRUE(found) << describe(found.error());
    const auto before = size_of(*found);
    const auto size = static_cast<std::uint64_t>(::lseek(fd.get(), 0, SEEK_END));
    const auto after = size_of(*found);
    ASSERT_TRUE(before && after) << path;
    if (*before != *after) continue;  // somebody sets it up at this moment
    EXPECT_EQ(*after, size) << path;
    ++known;
  }
  if (known == 0) GTEST_SKIP() << "this machine has no block device to look at";
}

TEST_F(ExportPath, SqueezesSlashes) {
  EXPECT_EQ(find("//a///b//deep"), deep_);
  EXPECT_EQ(find_below(tree_.string() + "///", "///disk"), disk_);
}

TEST_F(ExportPath, DefaultSearchPathIsTheWholeMachine) {
  EXPECT_EQ(find_below("/", disk_.string()), disk_);
  EXPECT_EQ(find_below("/", disk_.string().substr(1)), disk_);
}

TEST_F(ExportPath, RefusesTwoDotsAnywhereInTheName) {
  EXPECT_EQ(find("../secret"), "EINVAL");
  EXPECT_EQ(find("a/../disk"), "EINVAL");
  EXPECT_EQ(find(".."), "EINVAL");
  EXPECT_EQ(find("disk..1"), "EINVAL") << "as in the kernel, which looks for the two dots only";
  EXPECT_EQ(find_below("/", "../secret"), "EINVAL");
}

TEST_F(ExportPath, RefusesNamesThatAreNone) {
  EXPECT_EQ(find(""), "EINVAL");
  EXPECT_EQ(find("/"), "EINVAL");
  EXPECT_EQ(find("///"), "EINVAL");
  EXPECT_EQ(find(std::string(255, 'x')), "EINVAL");
  EXPECT_EQ(find(std::string("disk\0x", 6)), "EINVAL");
}

TEST_F(ExportPath, FollowsLinksThatStayInside) {
  fs::create_symlink("b/deep", tree_ / "a/near");
  fs::create_symlink("../../disk", tree_ / "a/b/up");
  fs::create_directory_symlink("a/b", tree_ / "short");
  EXPECT_EQ(find("a/near"), deep_);
  EXPECT_EQ(find("a/b/up"), disk_) << "as /dev/disk/by-id/* point to ../../sda";
  EXPECT_EQ(find("short/deep"), deep_);
}

TEST_F(ExportPath, RefusesLinksThatLeaveTheTree) {
  fs::create_symlink("../secret", tree_ / "relative");
  fs::create_symlink(secret_, tree_ / "absolute");
  fs::create_directory_symlink("..", tree_ / "directory");
  fs::create_directory_symlink("/", tree_ / "root");
  fs::create_symlink("absolute", tree_ / "twice");
  EXPECT_EQ(find("relative"), "EACCES");
  EXPECT_EQ(find("absolute"), "EACCES");
  EXPECT_EQ(find("directory/secret"), "EACCES");
  EXPECT_EQ(find("root" + secret_.string()), "EACCES");
  EXPECT_EQ(find("twice"), "EACCES");
}

TEST_F(ExportPath, SaysThatALinkLeavesTheTree) {
  fs::create_symlink("../secret", tree_ / "relative");
  const auto found = search(tree_.string()).find("host", "relative");
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().message.find("leaves dev_search_path"), std::string::npos);
}

TEST_F(ExportPath, AbsoluteLinksAreInsideBelowTheRootDirectory) {
  fs::create_symlink(secret_, tree_ / "absolute");
  EXPECT_EQ(find_below("/", in_tree("absolute")), secret_);
}

TEST_F(ExportPath, RefusesDescriptorsInProc) {
  const UniqueFd open(::open(secret_.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(find_below("/", "proc/self/fd/" + std::to_string(open.get())), "ELOOP");
}

TEST_F(ExportPath, RefusesWhatIsNoDisk) {
  ASSERT_EQ(::mkfifo((tree_ / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(find("a"), "ENOTBLK");
  EXPECT_EQ(find("fifo"), "ENOTBLK") << "and without waiting for the other end to open it";
  EXPECT_EQ(find_below("/dev", "null"), "ENOTBLK");
}

TEST_F(ExportPath, ReportsWhatIsMissing) {
  EXPECT_EQ(find("nothing"), "ENOENT");
  EXPECT_EQ(find("nothing/disk"), "ENOENT");
  EXPECT_EQ(find("disk/below"), "ENOTDIR");
  EXPECT_EQ(find_below(in_tree("nowhere"), "disk"), "ENOENT");
}

TEST_F(ExportPath, PutsTheSessionNameInPlaceOfTheMark) {
  const auto own = outer_.make_file("srv/host-1/disk", 512);
  const std::string srv = (outer_.path() / "srv").string();
  EXPECT_EQ(find_below(srv + "/%SESSNAME%", "disk", "host-1"), own);
  EXPECT_EQ(find_below(srv + "/%SESSNAME%", "disk", "host-2"), "ENOENT");
  EXPECT_EQ(find_below(srv + "%SESSNAME%", "disk", "host-1"), own) << "a slash is put in between";
  EXPECT_EQ(find_below(srv + "/%SESSNAME%/ignored", "disk", "host-1"), own)
      << "what follows the mark is dropped, as in the kernel";
}

TEST_F(ExportPath, SessionNamesCannotLeadOut) {
  const std::string marked = in_tree("a") + "/%SESSNAME%";
  EXPECT_EQ(find_below(marked, "disk", ".."), "EINVAL");
  EXPECT_EQ(find_below(marked, "disk", "."), "EINVAL");
  EXPECT_EQ(find_below(marked, "disk", ""), "EINVAL");
  EXPECT_EQ(find_below(marked, "deep", "x/b"), "EINVAL");
  EXPECT_EQ(find_below(marked, "deep", std::string("b\0", 2)), "EINVAL");
  EXPECT_EQ(find_below(marked, "deep", std::string(255, 'x')), "EINVAL");
  EXPECT_EQ(find_below(marked, "deep", "b"), deep_);
}

TEST_F(ExportPath, SessionNamesDoNotMatterWithoutTheMark) { EXPECT_EQ(find("disk", ".."), disk_); }

TEST_F(ExportPath, OneDiskHasOneIdentityUnderAllItsNames) {
  fs::create_symlink("disk", tree_ / "link");
  fs::create_hard_link(disk_, tree_ / "hard");
  const SearchPath path = search(tree_.string());
  const auto disk = path.find("host", "disk");
  const auto link = path.find("host", "link");
  const auto hard = path.find("host", "hard");
  const auto deep = path.find("host", "a/b/deep");
  ASSERT_TRUE(disk && link && hard && deep);
  EXPECT_EQ(disk->identity(), link->identity());
  EXPECT_EQ(disk->identity(), hard->identity());
  EXPECT_NE(disk->identity(), deep->identity());
}

TEST_F(ExportPath, ReopensTheDiskThatWasFoundAfterItsNameChanged) {
  const auto found = search(tree_.string()).find("host", "disk");
  ASSERT_TRUE(found);
  fs::remove(disk_);
  fs::create_symlink(secret_, disk_);
  const auto fd = found->reopen(O_RDWR);
  ASSERT_TRUE(fd);
  struct stat opened{};
  ASSERT_EQ(::fstat(fd->get(), &opened), 0);
  EXPECT_EQ(opened.st_ino, found->identity().inode);
}

TEST(SearchPath, MustBeAbsolute) {
  EXPECT_FALSE(SearchPath::create(""));
  EXPECT_FALSE(SearchPath::create("srv"));
  EXPECT_FALSE(SearchPath::create("/" + std::string(5000, 'x')));
  EXPECT_TRUE(SearchPath::create("/"));
}

}  // namespace
}  // namespace rnbd::server
