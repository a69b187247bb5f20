// SPDX-License-Identifier: Apache-2.0
// The tables that `stats` and `top` print from a daemon's answers to "stats". Pure.
#pragma once

#include <string>

#include "common/control/messages.h"

namespace rnbd::cli {

/// `result` as verbs.h describes it. Of latencies the half and 99 % are below what is shown, a
/// power of two of a microsecond.
std::string stats_table(const control::Json& result, bool headers);

/// What has been done in the `seconds` between two answers, busiest device first: rates, mean
/// latencies. What was not there before counts from zero.
std::string top_table(const control::Json& before, const control::Json& now, double seconds,
                      bool headers);

/// "850us", "12.3ms", "4.1s"; nothing for 0.
std::string human_time(std::uint64_t ns);

}  // namespace rnbd::cli
