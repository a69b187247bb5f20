// SPDX-License-Identifier: Apache-2.0
// Descriptors that outlive this process: whoever started it keeps copies, and hands them to the
// process that comes next. The keeper is systemd (FileDescriptorStoreMax=) or `rnbd-client
// supervise`, which speaks the same: sd_notify(3) and sd_listen_fds(3). Control thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <sys/un.h>

#include "client/descriptor_keeper.h"

namespace rnbd::client {

class DescriptorStore final : public DescriptorKeeper {
 public:
  /// Takes the inherited descriptors over and the variables out of the environment. Once, before
  /// other descriptors or threads come. Errors: EINVAL, if the environment makes no sense.
  static Result<DescriptorStore> from_environment();

  /// Nobody keeps anything.
  DescriptorStore() = default;

  /// Somebody keeps descriptors and starts a successor: NOTIFY_SOCKET is there, and FDSTORE says
  /// how many. systemd sets FDSTORE itself from version 254 on; before, the unit does.
  [[nodiscard]] bool has_keeper() const override { return keeper_length_ != 0 && room_; }

  Status keep(const std::string& name, int fd) override;
  void forget(const std::string& name) override;

  /// We serve.
  void tell_ready();

  std::map<std::string, UniqueFd> take_inherited() override { return std::move(inherited_); }

 private:
  Status set_keeper(const std::string& path);
  Status tell(std::string_view text, int fd = -1);

  UniqueFd socket_;
  sockaddr_un keeper_{};
  socklen_t keeper_length_ = 0;
  bool room_ = false;
  std::map<std::string, UniqueFd> inherited_;
};

}  // namespace rnbd::client
