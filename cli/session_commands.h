// SPDX-License-Identifier: Apache-2.0
// The verbs of rnbd-client that are about sessions and servers: session, remap, recover, discover.
#pragma once

#include <string>
#include <vector>

#include "cli/program.h"
#include "client/rnbdtab.h"
#include "common/control/verbs.h"

namespace rnbd::cli {

class SessionCommands {
 public:
  /// Adds its verbs to `program`, which outlives it.
  explicit SessionCommands(Program& program);

 private:
  /// One step of a recovery.
  struct Step {
    std::string verb;
    control::Json args;
    std::string text;  ///< "path blya ip:10.0.0.1"
  };

  void add_session();
  void add_recover();
  Ended session();
  Ended list_sessions();
  Ended remap();
  Ended recover();
  Ended discover();
  std::expected<std::vector<Step>, control::Failure> steps();
  std::expected<std::vector<Step>, control::Failure> missing_paths(const control::Json& paths);
  Ended take(const std::vector<Step>& steps);

  Program& program_;
  std::vector<std::string> session_words_;
  bool temporary_ = false;
  std::vector<std::string> address_words_;
  std::string device_;
  std::string object_;
  std::string tab_file_ = client::kRnbdtabFile;
  bool dry_run_ = false;
  bool add_missing_ = false;
};

}  // namespace rnbd::cli
