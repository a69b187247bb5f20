// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

#include <fmt/format.h>
#include <system_error>

#include "common/control/verbs.h"
#include "common/printable.h"

namespace rnbd::cli {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool has_line_with(const fs::path& path, std::string_view text) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.contains(text)) return true;
  }
  return false;
}

/// In order of their names; nothing if the directory is not there.
std::vector<fs::path> entries_of(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(directory, missing)) {
    entries.push_back(entry.path());
  }
  std::ranges::sort(entries);
  return entries;
}

Finding port_finding(const fs::path& device, const fs::path& port) {
  const std::string state = first_line(port / "state");  // "4: ACTIVE"
  const std::string text =
      fmt::format("{} port {} is {}", device.filename().string(), port.filename().string(),
                  state.empty() ? "not readable" : state);
  if (state.contains("ACTIVE")) return {"rdma", Verdict::Ok, text, {}};
  return {"rdma", Verdict::Warning, text, "nothing goes over it before its link is up: ip link"};
}

std::vector<Finding> examine_devices(const fs::path& root) {
  std::vector<Finding> findings;
  const fs::path all = root / "sys/class/infiniband";
  for (const fs::path& device : entries_of(all)) {
    for (const fs::path& port : entries_of(device / "ports")) {
      findings.push_back(port_finding(device, port));
    }
  }
  if (findings.empty()) {
    findings.push_back({"rdma", Verdict::Failed, "there is no RDMA device",
                        "load the adapter's driver, or have soft-RoCE on any interface: rdma link "
                        "add rxe0 type rxe netdev eth0"});
  }
  return findings;
}

Finding examine_locked_memory(const fs::path& root) {
  std::ifstream file(root / "proc/self/limits");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("Max locked memory")) continue;
    if (line.contains("unlimited")) return {"memory", Verdict::Ok, "memory can be pinned", {}};
    return {"memory", Verdict::Warning, "this shell limits what may be pinned; the unit does not",
            "start the daemon by systemctl, or raise ulimit -l"};
  }
  return {"memory", Verdict::Warning, "the limit of pinned memory is not known", {}};
}

}  // namespace

std::vector<Finding> examine_rdma(const fs::path& root) {
  std::vector<Finding> findings = examine_devices(root);
  if (is_there(root / "dev/infiniband/rdma_cm")) {
    findings.push_back({"rdma_cm", Verdict::Ok, "connections can be made", {}});
  } else {
    findings.push_back(
        {"rdma_cm", Verdict::Failed, "/dev/infiniband/rdma_cm is missing", "modprobe rdma_ucm"});
  }
  findings.push_back(examine_locked_memory(root));
  return findings;
}

std::vector<Finding> examine_nbd(const fs::path& root) {
  std::vector<Finding> findings;
  const std::string release = first_line(root / "proc/sys/kernel/osrelease");
  const fs::path modules = root / "lib/modules" / release;
  if (is_there(root / "sys/module/nbd")) {
    findings.push_back({"nbd", Verdict::Ok, "the kernel has its driver loaded", {}});
  } else if (has_line_with(modules / "modules.dep", "/nbd.ko") ||
             has_line_with(modules / "modules.builtin", "/nbd.ko")) {
    findings.push_back(
        {"nbd", Verdict::Ok, "the driver is there, and loaded when it is needed", {}});
  } else {
    findings.push_back({"nbd", Verdict::Failed, fmt::format("kernel {} has no nbd driver", release),
                        "install a kernel that has it (CONFIG_BLK_DEV_NBD)"});
  }
  constexpr std::array kRules = {"etc/udev/rules.d", "run/udev/rules.d",
                                 "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d",
                                 "lib/udev/rules.d"};
  const bool named = std::ranges::any_of(
      kRules, [&](const char* rules) { return is_there(root / rules / "60-rnbd.rules"); });
  findings.push_back(named ? Finding{"udev", Verdict::Ok, "devices get stable names", {}}
                           : Finding{"udev", Verdict::Warning,
                                     "60-rnbd.rules is missing: there are no names in /dev/rnbd",
                                     "install the package, or cmake --install"});
  return findings;
}

std::vector<Finding> examine_rivals(const fs::path& root) {
  if (!is_there(root / "sys/module/rnbd_server")) return {};
  return {{"port", Verdict::Warning, "the kernel's own server is loaded, and may have the port",
           "modprobe -r rnbd_server, or another port_nr"}};
}

std::string findings_text(const std::vector<Finding>& findings) {
  constexpr std::array<std::string_view, 3> kWords = {"ok", "warning", "FAILED"};
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{:<7}  {:<8}  {}\n", kWords[static_cast<std::size_t>(finding.verdict)],
                        finding.check, printable(finding.text));
    if (!finding.hint.empty()) text += fmt::format("{:19}{}\n", "", printable(finding.hint));
  }
  return text;
}

control::Json findings_json(const std::vector<Finding>& findings) {
  constexpr std::array<std::string_view, 3> kWords = {"ok", "warning", "failed"};
  control::Json list = control::Json::array();
  for (const Finding& finding : findings) {
    control::Json one = {{"check", finding.check},
                         {"verdict", kWords[static_cast<std::size_t>(finding.verdict)]},
                         {"text", finding.text}};
    if (!finding.hint.empty()) one["hint"] = finding.hint;
    list.push_back(std::move(one));
  }
  return {{"schema_version", control::kSchemaVersion}, {"findings", std::move(list)}};
}

int exit_of(const std::vector<Finding>& findings) {
  return std::ranges::any_of(findings,
                             [](const Finding& one) { return one.verdict == Verdict::Failed; })
             ? 1
             : 0;
}

}  // namespace rnbd::cli
