// SPDX-License-Identifier: Apache-2.0
// The verbs of rnbd-server by which it is administered: show, export, drain.
#pragma once

#include <string>
#include <vector>

#include "cli/program.h"
#include "common/control/admin_verbs.h"

namespace rnbd::cli {

class ServerAdmin {
 public:
  /// `program` outlives it.
  explicit ServerAdmin(Program& program) : program_(program) {}

  void add_verbs();

 private:
  void add_show();
  void add_export();
  void add_drain();
  Ended show();
  Ended change_exports();
  Ended list_exports();
  Ended ask_to_change();
  Ended drain();
  Ended wait_until_drained(control::DrainResult left);
  std::expected<control::DrainResult, control::Failure> ask_to_drain();

  Program& program_;
  std::string object_;
  std::vector<std::string> export_words_;
  control::ExportArgs export_;
  control::DrainArgs drain_;
  const CLI::Option* drain_session_ = nullptr;
  double patience_ = 0;  ///< seconds; 0: no end
  bool drain_json_ = false;
};

}  // namespace rnbd::cli
