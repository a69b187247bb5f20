// SPDX-License-Identifier: Apache-2.0
// Logging of both daemons: spdlog to stderr, one line an event, or to journald, with fields, where
// stderr ends in the journal. Never on the data path.
#pragma once

#include <string>
#include <string_view>

#include <spdlog/spdlog.h>

namespace rnbd::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

/// Sends the log to stderr at `level` ("debug", "info", "warning", "error"); to journald if the
/// environment's JOURNAL_STREAM says that stderr ends there. By main, before other threads come.
void start(const std::string& level);

/// What this thread's lines are about as long as it lives: the journal's fields RNBD_SESSION and
/// RNBD_DEVICE. An empty name is no field.
class About {
 public:
  explicit About(std::string session, std::string device = {});
  ~About();
  About(const About&) = delete;
  About& operator=(const About&) = delete;

  /// Of this thread; empty where nothing was said.
  [[nodiscard]] static std::string_view session();
  [[nodiscard]] static std::string_view device();

 private:
  const std::string session_;
  const std::string device_;
  const About* outer_;
};
/// Another level from now on. Any thread.
void set_level(const std::string& level);

}  // namespace rnbd::log
