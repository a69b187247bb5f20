// SPDX-License-Identifier: Apache-2.0
// Which sessions are being drained: they open nothing new, and what they have open comes to an end
// when its users let it go. A client that loses its server meanwhile may come back to what it had
// open: its I/O waits for that. Pure; control thread.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace rnbd::server {

class Drain {
 public:
  /// A session's name, and the name under which it has a device open.
  using Device = std::pair<std::string, std::string>;

  /// `session`: empty for all, and those to come. `open`: everything that any session has open.
  void begin(const std::string& session, const std::vector<Device>& open);

  /// Errors: EINVAL: all sessions are drained, not this one by itself.
  Status end(const std::string& session);

  /// Nothing of it is open any more, so nothing can come back: `session` as in begin().
  void finish(const std::string& session);

  [[nodiscard]] bool all() const { return all_; }
  [[nodiscard]] bool covers(std::string_view session) const;
  [[nodiscard]] bool may_open(std::string_view session, std::string_view name) const;
  /// A session that was lost may be founded again: it had something open.
  [[nodiscard]] bool may_return(std::string_view session) const;

 private:
  [[nodiscard]] bool was_open(std::string_view session, std::string_view name) const;

  bool all_ = false;
  std::set<std::string, std::less<>> sessions_;
  std::set<Device> was_open_;  ///< of those that are drained
};

/// What a client is told.
std::unexpected<Error> being_drained();

}  // namespace rnbd::server
