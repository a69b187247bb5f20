// SPDX-License-Identifier: Apache-2.0
// RNBD's values in the words that users write and read. Pure.
#pragma once

#include <string_view>

#include "common/rnbd_wire.h"

namespace rnbd::wire {

constexpr std::string_view name_of(AccessMode mode) {
  switch (mode) {
    case AccessMode::ReadOnly:
      return "ro";
    case AccessMode::ReadWrite:
      return "rw";
    case AccessMode::Migration:
      return "migration";
  }
  return "unknown";
}

constexpr std::string_view name_of(IoMode mode) {
  switch (mode) {
    case IoMode::ServerDefault:
      return "default";
    case IoMode::BlockIo:
      return "blockio";
    case IoMode::FileIo:
      return "fileio";
  }
  return "unknown";
}

}  // namespace rnbd::wire
