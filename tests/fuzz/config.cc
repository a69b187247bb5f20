// SPDX-License-Identifier: Apache-2.0
// The configuration files of both daemons: read, or refused with a place and a reason.
#include <cstdint>
#include <cstdio>
#include <string>
#include <unistd.h>

#include <sys/mman.h>

#include "client/config_file.h"
#include "common/assert.h"
#include "fuzz/input.h"
#include "server/config_file.h"

using namespace rnbd;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int file = ::memfd_create("config", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  RNBD_ASSERT(::ftruncate(file, 0) == 0);
  RNBD_ASSERT(::pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  server::DaemonOptions options;
  const auto loaded = server::load_config(path, options);
  if (!loaded) RNBD_ASSERT(loaded.error().code == EINVAL && !loaded.error().message.empty());
  client::DaemonOptions mapping;
  const auto read = client::load_config(path, mapping);
  if (!read) RNBD_ASSERT(read.error().code == EINVAL && !read.error().message.empty());
  return 0;
}
