// SPDX-License-Identifier: Apache-2.0
// States in the words of lists and metrics.
#pragma once

#include <array>
#include <string_view>

#include "server/exports.h"
#include "transport/rtrs/server_path.h"

namespace rnbd::server {

inline constexpr std::array<std::string_view, 2> kExportStateNames = {"open", "closed"};
inline constexpr std::array<std::string_view, 4> kPathStateNames = {"connecting", "connected",
                                                                    "closing", "draining"};

/// One of kExportStateNames.
std::string_view state_name(ExportState state);

/// One of kPathStateNames.
std::string_view state_name(const rtrs::ServerPath& path);

}  // namespace rnbd::server
