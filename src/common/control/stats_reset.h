// SPDX-License-Identifier: Apache-2.0
// `stats --reset`: counters are never set back, since metrics and scripts rely on them to grow;
// what is reset is from when on tables count. A mark is what a counter said then, and `since_reset`
// beside the counters is what has come on top of it. Marks live in the daemon and die with it.
// Control thread.
//
//   verb    daemon   args                                   result
//   reset   both     {"devices":[{"session":"blya",         {}
//                     "mapping_path":"vol1"}],"paths":[{"session":"blya","path":"ip:10.0.0.1"}]}
//                    or {}: everything. A server has no counters of paths.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/control/messages.h"
#include "common/control/verbs.h"

namespace rnbd::control {

inline constexpr const char* kResetVerb = "reset";

/// A device by its mapping path, or a path, of a session.
struct SessionPart {
  std::string session;
  std::string name;

  bool operator==(const SessionPart&) const = default;
};

struct ResetArgs {
  bool everything = false;  ///< and what follows is empty
  std::vector<SessionPart> devices;
  std::vector<SessionPart> paths;
};

Json to_json(const ResetArgs& args);
/// Errors: EINVAL names the member that is missing or of the wrong type.
Result<ResetArgs> read_reset_args(const Json& args);

/// From when on the devices' counters are shown.
class StatsMarks {
 public:
  /// Of those of `counted` that `which` names. Errors: ENOENT, one of them is not there; then no
  /// mark is set.
  Status set(const std::vector<DeviceStats>& counted, const ResetArgs& which, TimePoint now);

  /// An array of what to_json(DeviceStats) makes, with `since_reset` where there is a mark. A
  /// device that is not among them is gone, and so is its mark.
  Json list(const std::vector<DeviceStats>& counted, TimePoint now);

 private:
  struct Mark {
    DeviceStats counted;
    TimePoint at;
  };
  std::map<std::string, Mark> marks_;  ///< by DeviceStats::life
};

}  // namespace rnbd::control
