// SPDX-License-Identifier: Apache-2.0
// The tables that `stats` and `top` print from a daemon's answers to "stats". Pure. Errors: EINVAL,
// a column that there is not.
#pragma once

#include <string>

#include "cli/table.h"
#include "common/control/messages.h"

namespace rnbd::cli {

/// `result` as verbs.h describes it. Of latencies the half and 99 % are below what is shown, a
/// power of two of a microsecond. Of what was reset the counts since then are shown, and how long
/// that has been.
Result<std::string> stats_table(const control::Json& result, const TableStyle& style);

/// What has been done in the `seconds` between two answers, busiest device first: rates, mean
/// latencies. What was not there before counts from zero.
Result<std::string> top_table(const control::Json& before, const control::Json& now, double seconds,
                              const TableStyle& style);

/// "850us", "12.3ms", "4.1s"; nothing for 0.
std::string human_time(std::uint64_t ns);

}  // namespace rnbd::cli
