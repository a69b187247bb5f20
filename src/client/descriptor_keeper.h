// SPDX-License-Identifier: Apache-2.0
// Whoever keeps descriptors for the process that comes after this one, as the control plane sees
// it. Control thread.
#pragma once

#include <map>
#include <string>

#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::client {

class DescriptorKeeper {
 public:
  virtual ~DescriptorKeeper() = default;

  /// Is there anybody?
  [[nodiscard]] virtual bool has_keeper() const = 0;

  /// Keeps a copy of `fd` under `name` (printable ASCII without ':'), which is new, until forget().
  /// The copy is safe when this returns, whatever becomes of us. Does nothing without a keeper.
  virtual Status keep(const std::string& name, int fd) = 0;
  virtual void forget(const std::string& name) = 0;

  /// What a process before this one kept, by name. It stays kept.
  virtual std::map<std::string, UniqueFd> take_inherited() = 0;
};

}  // namespace rnbd::client
