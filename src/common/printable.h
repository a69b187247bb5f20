// SPDX-License-Identifier: Apache-2.0
// Text from somewhere else, made fit for a terminal and a log. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace rnbd {

/// `text` with control characters written as \xHH: it stays on its line and drives no terminal.
std::string printable(std::string_view text);

}  // namespace rnbd
