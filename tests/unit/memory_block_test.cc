// SPDX-License-Identifier: Apache-2.0
// MemoryBlock: what the system is told of it.
#include "common/memory_block.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

namespace rnbd {
namespace {

constexpr std::size_t kLong = 4 << 20;

/// The flags of the mapping that `block` lies in, as /proc/self/smaps has them.
std::string flags_of(const MemoryBlock& block) {
  const auto address = reinterpret_cast<std::uintptr_t>(block.bytes().data());
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin <= address && address < end;
    } else if (inside && line.starts_with("VmFlags:")) {
      return line + ' ';
    }
  }
  return "";
}

std::size_t pages_there(const MemoryBlock& block) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> there(block.bytes().size() / page);
  EXPECT_EQ(::mincore(block.bytes().data(), block.bytes().size(), there.data()), 0);
  return static_cast<std::size_t>(std::ranges::count(there, 1));
}

TEST(MemoryBlock, IsInNoChildAndNoCoreFileAndAsksForHugePagesIfItIsLong) {
  const auto block = MemoryBlock::map(kLong);
  const auto brief = MemoryBlock::map(8192);
  ASSERT_TRUE(block && brief);
  EXPECT_THAT(flags_of(*block),
              testing::AllOf(testing::HasSubstr(" dc "), testing::HasSubstr(" dd ")));
  const bool system_has_them = std::filesystem::exists("/sys/kernel/mm/transparent_hugepage");
  EXPECT_EQ(flags_of(*block).contains(" hg "), system_has_them);
  EXPECT_THAT(flags_of(*brief), testing::Not(testing::HasSubstr(" hg ")));
}

TEST(MemoryBlock, OfAFileIsAllThereAtOnceAndOutlivesItsMapping) {
  const auto file = MemoryBlock::make_file("test", kLong);
  ASSERT_TRUE(file);
  {
    const auto block = MemoryBlock::map_file(file->get(), kLong);
    ASSERT_TRUE(block);
    EXPECT_EQ(pages_there(*block), kLong / static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
    EXPECT_EQ(flags_of(*block).contains(" hg "),
              std::filesystem::exists("/sys/kernel/mm/transparent_hugepage"));
    block->bytes()[kLong - 1] = std::byte{7};
  }
  const auto again = MemoryBlock::map_file(file->get(), kLong);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes()[kLong - 1], std::byte{7});
}

}  // namespace
}  // namespace rnbd
