// SPDX-License-Identifier: Apache-2.0
// Small files that people write. Any thread; blocks.
#pragma once

#include <string>

#include "common/result.h"

namespace rnbd {

/// All of a file of at most 1 MiB. Errors: those of open(2) and read(2), naming the file; EFBIG.
Result<std::string> read_text_file(const std::string& path);

}  // namespace rnbd
