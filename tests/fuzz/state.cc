// SPDX-License-Identifier: Apache-2.0
// The daemons' state files: understood, and then understood again as they are written, or refused.
#include <cstdint>
#include <stdexcept>

#include "client/persistent_mappings.h"
#include "common/assert.h"
#include "fuzz/input.h"
#include "server/export_state.h"

using namespace rnbd;

namespace {

void read_exports(const control::Json& json) {
  const auto added = server::exports_of_state(json);
  const auto again = server::exports_of_state(server::state_of(added));
  RNBD_ASSERT(again.size() == added.size());
  for (std::size_t i = 0; i < added.size(); ++i) {
    RNBD_ASSERT(again[i].name == added[i].name && again[i].path == added[i].path &&
                again[i].read_only == added[i].read_only);
  }
}

void read_mappings(const control::Json& json) {
  const auto mapped = client::PersistentMappings::from_json(json);
  const auto again = client::PersistentMappings::from_json(mapped.to_json());
  RNBD_ASSERT(again.all().size() == mapped.all().size());
  for (const client::PersistentMapping& one : mapped.all()) {
    const auto* same = again.find(one.session, one.device_path);
    RNBD_ASSERT(same != nullptr && same->words == one.words && same->node == one.node);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const auto json = control::Json::parse(fuzz::text(input.rest()), nullptr, false);
  if (json.is_discarded()) return 0;
  for (const auto& read : {read_exports, read_mappings}) {
    try {
      read(json);
    } catch (const std::exception&) {
      continue;  // as a damaged file does, which is set aside
    }
  }
  return 0;
}
