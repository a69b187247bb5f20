// SPDX-License-Identifier: Apache-2.0
// The tab file: what is understood is what map would take, under names that units can have.
#include "client/rnbdtab.h"

#include <cstdint>
#include <set>
#include <string>

#include "client/map_words.h"
#include "common/assert.h"
#include "fuzz/input.h"

using namespace rnbd;
using namespace rnbd::client;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const auto entries = parse_rnbdtab(fuzz::text(input.rest()), "host");
  if (!entries) {
    RNBD_ASSERT(entries.error().code == EINVAL && !entries.error().message.empty());
    return 0;
  }
  std::set<std::string> names;
  for (const TabEntry& entry : *entries) {
    RNBD_ASSERT(names.insert(entry.name).second);
    RNBD_ASSERT(entry.name.find_first_of("/ \t\n\\") == std::string::npos);
    RNBD_ASSERT(parse_map_words(entry.words, "host").has_value());
  }
  return 0;
}
