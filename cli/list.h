// SPDX-License-Identifier: Apache-2.0
// The tables that `list`, `path list`, `session list`, `export list`, `revalidate` and `discover`
// print from a daemon's answer. Pure. Errors: EINVAL, a column that there is not.
#pragma once

#include <string>

#include "cli/table.h"
#include "common/control/messages.h"

namespace rnbd::cli {

enum class ListKind { Client, Server };  ///< the server's has a column CLIENT more

/// `result` as verbs.h describes it. A field that is missing or of the wrong type shows as "-".
Result<std::string> list_table(const control::Json& result, ListKind kind, const TableStyle& style);

/// The same for the answer to "paths".
Result<std::string> paths_table(const control::Json& result, const TableStyle& style);

/// The same for the answer to "sessions".
Result<std::string> sessions_table(const control::Json& result, const TableStyle& style);

/// The same for the answer to "exports".
Result<std::string> exports_table(const control::Json& result, const TableStyle& style);

/// The same for the answer to "revalidate".
Result<std::string> resized_table(const control::Json& result, const TableStyle& style);

/// The same for the answer to "discover".
Result<std::string> servers_table(const control::Json& result, const TableStyle& style);

/// The same for a client's sessions, as client_sessions() has them (views.h).
Result<std::string> client_sessions_table(const control::Json& result, const TableStyle& style);

}  // namespace rnbd::cli
