// SPDX-License-Identifier: Apache-2.0
// /etc/rnbd/rnbdtab: what shall be mapped at boot, a line each, in four columns as in fstab(5):
//
//   # NAME  SERVER                 DEVICE_PATH  OPTIONS
//   vol1    ip:10.0.0.1            vol1         defaults
//   logs    gid:fe80::1            logs         access_mode=ro,nofail
//   blya    sess1                  /dev/vg/v2   path=ip:10.0.0.1,path=ip:10.1.0.1,noauto
//
// SERVER is the value of server=, or the name of a session. Options are the words of map
// (map_words.h) with commas between them, and noauto (only when asked for), nofail (the boot does
// not depend on it), _netdev and defaults (which mean nothing more here). In names and paths \040
// is a blank, \011 a tab, \012 a newline and \134 a backslash. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace rnbd::client {

inline constexpr const char* kRnbdtabFile = "/etc/rnbd/rnbdtab";

struct TabEntry {
  unsigned line = 0;               ///< in the file, from 1
  std::string name;                ///< letters, digits and _.:-; unique
  std::vector<std::string> words;  ///< of map
  std::string session_name;        ///< as they mean it
  std::string device_path;
  std::vector<std::string> paths;  ///< "[src@]dst"
  std::uint16_t port = 0;
  bool automatic = true;  ///< at boot; without noauto
  bool needed = true;     ///< without nofail
};

/// All lines that are not empty or comments, in their order. `hostname` is this host's, as for
/// parse_map_words. Errors: EINVAL "LINE:COLUMN: what is wrong"; two lines that map one device are
/// wrong too.
Result<std::vector<TabEntry>> parse_rnbdtab(std::string_view text, std::string_view hostname);

}  // namespace rnbd::client
