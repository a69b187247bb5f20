// SPDX-License-Identifier: Apache-2.0
// The control socket: requests as a daemon reads them, replies as a command does.
#include <cstdint>

#include "common/assert.h"
#include "common/control/admin_verbs.h"
#include "common/control/messages.h"
#include "common/control/stats_reset.h"
#include "common/control/verbs.h"
#include "fuzz/input.h"

using namespace rnbd;
using namespace rnbd::control;

namespace {

/// Whatever they are.
void read_args(const Json& args) {
  static_cast<void>(read_map_args(args));
  static_cast<void>(read_unmap_args(args));
  static_cast<void>(read_path_args(args));
  static_cast<void>(read_paths_args(args));
  static_cast<void>(read_session_args(args));
  static_cast<void>(read_events_args(args));
  static_cast<void>(read_set_args(args));
  static_cast<void>(read_resize_args(args));
  static_cast<void>(read_revalidate_args(args));
  static_cast<void>(read_upgrade_args(args));
  static_cast<void>(read_export_args(args));
  static_cast<void>(read_drain_args(args));
  static_cast<void>(read_reset_args(args));
}

void read_result(const Json& result) {
  static_cast<void>(read_map_result(result));
  static_cast<void>(read_resize_result(result));
  static_cast<void>(read_drain_result(result));
  static_cast<void>(read_reload_result(result));
  static_cast<void>(check_list_result(result));
  static_cast<void>(check_paths_result(result));
  static_cast<void>(check_sessions_result(result));
  static_cast<void>(check_servers_result(result));
  static_cast<void>(check_exports_result(result));
  static_cast<void>(check_events_result(result));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::string line = fuzz::text(input.rest());
  if (const auto request = decode_request(line)) {
    RNBD_ASSERT(request->args.is_object());
    read_args(request->args);
    // What was understood can be said, and is understood again.
    if (const auto said = encode(*request)) {
      const auto again = decode_request(std::string_view(*said).substr(0, said->size() - 1));
      RNBD_ASSERT(again && again->verb == request->verb && again->args == request->args);
    }
  }
  const Outcome outcome = decode_reply(line);
  if (outcome) read_result(*outcome);
  const std::string said = encode(outcome);
  RNBD_ASSERT(said.size() <= kMaxReplyLine && said.find('\n') == said.size() - 1);
  return 0;
}
