// SPDX-License-Identifier: Apache-2.0
// Stable names of a mapped disk for udev, made of the backend that the kernel shows for it. Pure.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace rnbd::cli {

/// Letters, digits and #+-.:=@_ stand for themselves, every other byte is \xHH: udev leaves such
/// names as they are. Two disks never have one name.
struct UdevNames {
  std::string name;  ///< "SESSION/DEVICE": below /dev/rnbd; no "." or ".." in it
  std::string id;    ///< "SESSION:DEVICE", with ':' for each '/': one component of a path
};

/// `backend`: "rnbd:SESSION/DEVICE". Slashes at the beginning and the end of DEVICE, and all but
/// one of several, are left out, as servers do. Errors: EINVAL: it is not one of ours.
Result<UdevNames> udev_names(std::string_view backend);

}  // namespace rnbd::cli
