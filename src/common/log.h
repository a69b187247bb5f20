// SPDX-License-Identifier: Apache-2.0
// Logging of both daemons: spdlog to stderr, one line an event, with the priority prefixes that
// journald understands when it listens. Never on the data path.
#pragma once

#include <spdlog/spdlog.h>

namespace rnbd::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

/// Sends the log to stderr at `level` ("debug", "info", "warning", "error"). Called once, by main.
/// With the environment's JOURNAL_STREAM set, lines carry a priority instead of a time.
void start(const std::string& level);

}  // namespace rnbd::log
