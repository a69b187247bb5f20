// SPDX-License-Identifier: Apache-2.0
// Files that are replaced as a whole: whoever reads one, now or after a power cut, finds the old
// content or the new. Any thread; blocks, for as long as the disk takes.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace rnbd {

/// Writes `text` beside `path`, mode 0600, and puts it in its place when it is on the disk. One
/// writer at a time. Errors: those of open(2), write(2), fsync(2) and rename(2); the old content is
/// there then.
Status replace_file(const std::string& path, std::string_view text);

/// Moves a file that cannot be used to PATH.damaged-N, where nothing is yet. The answer is its new
/// name. Errors: those of rename(2); ENOSPC: there are too many.
Result<std::string> set_aside(const std::string& path);

}  // namespace rnbd
