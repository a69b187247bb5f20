// SPDX-License-Identifier: Apache-2.0
// Disks of every sort for tests of the server's storage. A block device is used, and overwritten,
// only if RNBD_TEST_BLOCK_DEVICE names one.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "server/backend.h"
#include "server/export_path.h"
#include "unit/temp_directory.h"

namespace rnbd::test {

inline std::optional<std::string> block_device() {
  const char* path = std::getenv("RNBD_TEST_BLOCK_DEVICE");
  return path == nullptr ? std::nullopt : std::optional<std::string>(path);
}

#define RNBD_REQUIRE_BLOCK_DEVICE()                                                  \
  if (!::rnbd::test::block_device()) {                                               \
    GTEST_SKIP() << "RNBD_TEST_BLOCK_DEVICE does not name a disk to be overwritten"; \
  }

/// The disk at an absolute path.
inline server::FoundDisk find_disk(const std::string& path) {
  auto found = server::SearchPath::create("/")->find("", path);
  if (!found) {
    ADD_FAILURE() << describe(found.error());
    std::abort();
  }
  return std::move(*found);
}

}  // namespace rnbd::test
