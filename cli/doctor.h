// SPDX-License-Identifier: Apache-2.0
// What `doctor` looks at on this host, beside what the daemon says: why a mapping may not work, and
// what to do about it. Reads files only.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/control/messages.h"

namespace rnbd::cli {

enum class Verdict { Ok, Warning, Failed };

struct Finding {
  std::string check;  ///< "rdma", "nbd", …
  Verdict verdict = Verdict::Ok;
  std::string text;
  std::string hint;  ///< what to do; empty if nothing is
};

/// RDMA devices and their ports, the connection manager's device, the limit of locked memory.
/// `root`: "/", or where a test has its files.
std::vector<Finding> examine_rdma(const std::filesystem::path& root);

/// The nbd driver, and the rules that make stable names.
std::vector<Finding> examine_nbd(const std::filesystem::path& root);

/// Whether the kernel's own server has the port.
std::vector<Finding> examine_rivals(const std::filesystem::path& root);

/// "ok      rdma    mlx5_0 port 1 is ACTIVE", and what to do on a line below.
std::string findings_text(const std::vector<Finding>& findings);

/// {"schema_version":1,"findings":[{"check","verdict","text","hint"},…]}
control::Json findings_json(const std::vector<Finding>& findings);

/// 1 if something failed.
int exit_of(const std::vector<Finding>& findings);

}  // namespace rnbd::cli
