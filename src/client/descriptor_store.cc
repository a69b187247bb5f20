// SPDX-License-Identifier: Apache-2.0
#include "client/descriptor_store.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>

#include <fmt/format.h>

#include "common/log.h"

namespace rnbd::client {
namespace {

constexpr int kFirstInherited = 3;  // as systemd numbers them
constexpr int kMaxInherited = 65536;

}  // namespace

Result<DescriptorStore> DescriptorStore::from_environment(Notifier& notifier) {
  DescriptorStore store;
  const auto count_text = take_variable("LISTEN_FDS");
  const auto pid_text = take_variable("LISTEN_PID");
  const auto names = take_variable("LISTEN_FDNAMES");
  if (count_text && pid_text && to_count(*pid_text) == ::getpid()) {
    const int count = to_count(*count_text).value_or(kMaxInherited + 1);
    if (count > kMaxInherited) return fail(EINVAL, "LISTEN_FDS makes no sense");
    std::string_view rest = names ? std::string_view(*names) : std::string_view();
    for (int fd = kFirstInherited; fd < kFirstInherited + count; ++fd) {
      const std::string name(rest.substr(0, rest.find(':')));
      rest.remove_prefix(std::min(rest.size(), name.size() + 1));
      if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return fail(errno, fmt::format("inherited descriptor {} ({}) is not there", fd, name));
      }
      store.inherited_.insert_or_assign(name, UniqueFd(fd));
      store.kept_.insert(name);
    }
  }
  const auto room = take_variable("FDSTORE");
  if (notifier.listened_to() && room && to_count(*room).value_or(0) > 0) store.keeper_ = &notifier;
  return store;
}

Status DescriptorStore::keep_beside(const std::string& name, UniqueFd fd) {
  if (!has_keeper()) return {};
  inherited_.erase(name);
  const bool was_kept = kept_.erase(name) == 1 || (beside_fd_ && !kept_.empty());
  if (was_kept) tell_forget(name);
  beside_ = name;
  beside_fd_ = std::move(fd);
  return kept_.empty() ? Status{} : tell_keep(beside_, beside_fd_.get());
}

Status DescriptorStore::keep(const std::string& name, int fd) {
  if (!has_keeper()) return {};
  if (kept_.empty() && beside_fd_) {
    if (Status kept = tell_keep(beside_, beside_fd_.get()); !kept) return kept;
  }
  kept_.insert(name);
  return tell_keep(name, fd);
}

void DescriptorStore::forget(const std::string& name) {
  if (!has_keeper()) return;
  tell_forget(name);
  const bool was_last = kept_.erase(name) == 1 && kept_.empty();
  if (was_last && beside_fd_) tell_forget(beside_);
}

Status DescriptorStore::tell_keep(const std::string& name, int fd) {
  // FDPOLL=0: a socket whose other end is closed is still ours to read.
  return keeper_->tell(fmt::format("FDSTORE=1\nFDNAME={}\nFDPOLL=0", name), fd);
}

void DescriptorStore::tell_forget(const std::string& name) {
  if (Status told = keeper_->tell(fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name)); !told) {
    log::warn("{} stays kept: {}", name, describe(told.error()));
  }
}

}  // namespace rnbd::client
