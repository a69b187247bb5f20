// SPDX-License-Identifier: Apache-2.0
// Where the log goes under systemd: journald's own protocol, systemd.io/JOURNAL_NATIVE_PROTOCOL, so
// that a line has fields that can be asked for (journalctl RNBD_SESSION=blya). Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include <spdlog/sinks/base_sink.h>

#include "common/unique_fd.h"

namespace rnbd::log {

inline constexpr const char* kJournaldSocket = "/run/systemd/journal/socket";

/// Whether `journal_stream`, the variable JOURNAL_STREAM, says that `fd` ends in the journal.
bool is_journal(const char* journal_stream, int fd);

class JournaldSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  /// `path`: of journald's socket. A line that cannot be sent there goes to stderr, which ends in
  /// the journal too; one that journald has no room for is dropped and counted, since whoever waits
  /// for it may be what it waits for.
  explicit JournaldSink(std::string path);

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}
  int send(int priority, const std::string& text);

  std::string path_;
  UniqueFd socket_;
  std::uint64_t lost_ = 0;
};

}  // namespace rnbd::log
