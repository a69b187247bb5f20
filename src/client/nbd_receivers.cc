// SPDX-License-Identifier: Apache-2.0
#include "client/nbd_receivers.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <system_error>

namespace rnbd::client {
namespace {

/// Of what makes all threads of the kernel.
constexpr const char* kThreadMaker = "kthreadd";

bool is_process(const std::string& name) {
  return !name.empty() &&
         std::ranges::all_of(name, [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace

std::optional<std::size_t> count_receivers(std::uint32_t index, const std::filesystem::path& proc) {
  const std::string doing = fmt::format("+nbd{}-recv", index);
  const std::string doing_before_5_16 = fmt::format("+knbd{}-recv", index);
  std::size_t count = 0;
  bool kernels = false;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(proc, error)) {
    if (!is_process(entry.path().filename().string())) continue;
    std::ifstream file(entry.path() / "comm");
    std::string name;
    std::getline(file, name);
    kernels = kernels || name == kThreadMaker;
    if (name.ends_with(doing) || name.ends_with(doing_before_5_16)) ++count;
  }
  if (!kernels) return {};
  return count;
}

}  // namespace rnbd::client
