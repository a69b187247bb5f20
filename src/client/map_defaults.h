// SPDX-License-Identifier: Apache-2.0
// Words of `map` that a configuration may say in advance, for mappings and sessions that do not say
// them. Pure; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace rnbd::client {

inline constexpr std::array<std::string_view, 5> kDefaultWords = {
    "hb_interval_ms", "hb_missed_max", "mpath_policy", "max_reconnect_attempts", "on_no_path"};

/// One of each at most: "hb_interval_ms=200".
using MapDefaults = std::vector<std::string>;

/// What it says of `word`; empty: nothing.
std::string_view default_of(const MapDefaults& defaults, std::string_view word);

/// Has it say `value` of `word`, one of kDefaultWords. Errors: EINVAL, beginning with the word.
Status set_default(MapDefaults& defaults, std::string_view word, std::string_view value);

}  // namespace rnbd::client
