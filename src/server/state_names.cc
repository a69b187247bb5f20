// SPDX-License-Identifier: Apache-2.0
#include "server/state_names.h"

namespace rnbd::server {

std::string_view state_name(ExportState state) {
  switch (state) {
    case ExportState::Open:
      return "open";
    case ExportState::Closing:
    case ExportState::Closed:
      return "closed";
  }
  return "closed";
}

std::string_view state_name(const rtrs::ServerPath& path) {
  switch (path.state()) {
    case rtrs::ServerPathState::Connecting:
    case rtrs::ServerPathState::Binding:
      return "connecting";
    case rtrs::ServerPathState::Connected:
      return "connected";
    case rtrs::ServerPathState::Closing:
      return "closing";
    case rtrs::ServerPathState::Draining:
    case rtrs::ServerPathState::Closed:
      return "draining";
  }
  return "draining";
}

}  // namespace rnbd::server
