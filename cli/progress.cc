// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <cstdio>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "common/printable.h"

namespace rnbd::cli {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";

}  // namespace

Progress::Progress(std::string program, std::string verb, const std::function<std::string()>& why)
    : program_(std::move(program)), verb_(std::move(verb)), why_(why) {}

Progress::~Progress() {
  if (shown_) std::fputs(kClearLine, stderr);
}

void Progress::show() {
  if (!why_ || ::isatty(STDERR_FILENO) == 0) return;
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begun_);
  const std::string why = why_();
  std::fputs(fmt::format("{}{}: {}: {} s{}{}", kClearLine, program_, verb_, seconds.count(),
                         why.empty() ? "" : ", ", printable(why))
                 .c_str(),
             stderr);
  shown_ = true;
}

}  // namespace rnbd::cli
