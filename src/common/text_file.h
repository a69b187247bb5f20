// SPDX-License-Identifier: Apache-2.0
// Small files that people write. Any thread; blocks.
#pragma once

#include <cstddef>
#include <string>

#include "common/result.h"

namespace rnbd {

inline constexpr std::size_t kMaxTextFile = 1UL << 20;

/// All of a file of at most kMaxTextFile bytes. Errors: those of open(2) and read(2), naming the
/// file; EFBIG.
Result<std::string> read_text_file(const std::string& path);

}  // namespace rnbd
