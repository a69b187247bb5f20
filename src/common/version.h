// SPDX-License-Identifier: Apache-2.0
// Which version of the programs this is.
#pragma once

namespace rnbd {

/// "0.1.0", as the build has it.
const char* version();

}  // namespace rnbd
