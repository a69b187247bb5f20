// SPDX-License-Identifier: Apache-2.0
// The words of a mapping, one a line: what is understood keeps to its limits.
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "client/map_words.h"
#include "common/assert.h"
#include "fuzz/input.h"

using namespace rnbd;
using namespace rnbd::client;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  std::istringstream lines(fuzz::text(input.rest()));
  std::vector<std::string> words;
  for (std::string line; std::getline(lines, line);) words.push_back(line);
  const auto request = parse_map_words(words, "host");
  if (!request) {
    RNBD_ASSERT(request.error().code == EINVAL && !request.error().message.empty());
    return 0;
  }
  RNBD_ASSERT(!request->session_name.empty() && request->session_name.size() <= kMaxName);
  RNBD_ASSERT(request->session_name.find_first_of("/. \t\n") == std::string::npos);
  RNBD_ASSERT(!request->device_path.empty() && request->device_path.size() <= kMaxName);
  RNBD_ASSERT(request->paths.size() <= kMaxPaths && request->port > 0);
  return 0;
}
