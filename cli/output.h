// SPDX-License-Identifier: Apache-2.0
// What the commands print: results on stdout and nothing else there, errors on stderr. Pure but for
// print().
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/control/messages.h"

namespace rnbd::cli {

/// "rnbd-client: map: EEXIST: vol1 already mapped as /dev/nbd0 (session blya)", and a second line
/// with what to do if the failure has one. `verb` may be empty.
std::string failure_text(std::string_view program, std::string_view verb,
                         const control::Failure& failure);

/// {"error":{…}}, one line: what --json prints on stdout instead of a result.
std::string failure_json(const control::Failure& failure);

/// How a command ends that took several steps, of which some failed, each told by itself: exit code
/// 11, or 1 if all did.
control::Failure steps_failure(std::size_t failed, std::size_t all);

/// Indented JSON with a newline.
std::string json_text(const control::Json& json);

/// Writes to stdout. EIO, or what write(2) says, if not all of it could be written.
Status print(std::string_view text);

}  // namespace rnbd::cli
