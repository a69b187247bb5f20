// SPDX-License-Identifier: Apache-2.0
// A directory for one test, removed with all it holds.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace rnbd::test {

class TempDirectory {
 public:
  explicit TempDirectory(const std::filesystem::path& parent = "/var/tmp") {
    std::string name = (parent / "rnbd-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << name;
    path_ = name;
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// A file of `bytes` zeroes, not allocated; its directories are made.
  [[nodiscard]] std::filesystem::path make_file(const std::string& name,
                                                std::uint64_t bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    const UniqueFd fd(::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_TRUE(fd) << file;
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0) << file;
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace rnbd::test
