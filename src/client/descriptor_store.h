// SPDX-License-Identifier: Apache-2.0
// Descriptors that outlive this process: whoever started it keeps copies, and hands them to the
// process that comes next. The keeper is systemd (FileDescriptorStoreMax=) or `rnbd-client daemon
// --supervise`, which speaks the same: sd_notify(3) and sd_listen_fds(3). Control thread.
#pragma once

#include <map>
#include <string>

#include "client/descriptor_keeper.h"
#include "common/notifier.h"

namespace rnbd::client {

class DescriptorStore final : public DescriptorKeeper {
 public:
  /// Takes the inherited descriptors over and the variables out of the environment. Once, before
  /// other descriptors or threads come. `notifier` reaches the keeper, and outlives the store.
  /// Errors: EINVAL, if the environment makes no sense.
  static Result<DescriptorStore> from_environment(Notifier& notifier);

  /// Nobody keeps anything.
  DescriptorStore() = default;

  /// Somebody keeps descriptors and starts a successor: he listens, and FDSTORE says how many.
  /// systemd sets FDSTORE itself from version 254 on; before, the unit does.
  [[nodiscard]] bool has_keeper() const override { return keeper_ != nullptr; }

  Status keep(const std::string& name, int fd) override;
  void forget(const std::string& name) override;

  std::map<std::string, UniqueFd> take_inherited() override { return std::move(inherited_); }

 private:
  Notifier* keeper_ = nullptr;
  std::map<std::string, UniqueFd> inherited_;
};

}  // namespace rnbd::client
