// SPDX-License-Identifier: Apache-2.0
// Descriptors that outlive this process: whoever started it keeps copies, and hands them to the
// process that comes next. The keeper is systemd (FileDescriptorStoreMax=) or `rnbd-client daemon
// --supervise`, which speaks the same: sd_notify(3) and sd_listen_fds(3). Control thread.
#pragma once

#include <map>
#include <set>
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

  /// Has `fd` kept under `name` for as long as anything else is, in place of what was kept under it
  /// before; inherited descriptors of that name are not handed out. Errors: those of keep().
  Status keep_beside(const std::string& name, UniqueFd fd);

  Status keep(const std::string& name, int fd) override;
  void forget(const std::string& name) override;

  std::map<std::string, UniqueFd> take_inherited() override { return std::move(inherited_); }

 private:
  Status tell_keep(const std::string& name, int fd);
  void tell_forget(const std::string& name);

  Notifier* keeper_ = nullptr;
  std::map<std::string, UniqueFd> inherited_;
  std::set<std::string> kept_;  ///< names, but for the one beside them
  std::string beside_;          ///< its name
  UniqueFd beside_fd_;
};

}  // namespace rnbd::client
