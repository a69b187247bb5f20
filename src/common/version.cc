// SPDX-License-Identifier: Apache-2.0
#include "common/version.h"

namespace rnbd {

const char* version() { return RNBD_VERSION; }

}  // namespace rnbd
