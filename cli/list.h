// SPDX-License-Identifier: Apache-2.0
// The tables that `list`, `path list`, `session list` and `revalidate` print from a daemon's
// answer. Pure.
#pragma once

#include <string>

#include "common/control/messages.h"

namespace rnbd::cli {

enum class ListKind { Client, Server };  ///< the server's has a column CLIENT more

/// `result` as verbs.h describes it. A field that is missing or of the wrong type shows as "-".
std::string list_table(const control::Json& result, ListKind kind, bool headers);

/// The same for the answer to "paths".
std::string paths_table(const control::Json& result, bool headers);

/// The same for the answer to "sessions".
std::string sessions_table(const control::Json& result, bool headers);

/// The same for the answer to "revalidate".
std::string resized_table(const control::Json& result, bool headers);

}  // namespace rnbd::cli
