// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include "common/printable.h"

namespace rnbd::cli {
namespace {

std::string dump(const control::Json& json, int indent) {
  return json.dump(indent, ' ', false, control::Json::error_handler_t::replace) + '\n';
}

}  // namespace

std::string failure_text(std::string_view program, std::string_view verb,
                         const control::Failure& failure) {
  std::string text = fmt::format("{}: {}{}{}: {}\n", program, verb, verb.empty() ? "" : ": ",
                                 errno_name(failure.error.code), printable(failure.error.message));
  if (!failure.hint.empty()) text += fmt::format("{}: {}\n", program, printable(failure.hint));
  return text;
}

std::string failure_json(const control::Failure& failure) {
  return dump({{"error", control::to_json(failure)}}, -1);
}

control::Failure steps_failure(std::size_t failed, std::size_t all) {
  return {{EIO, fmt::format("{} of {} steps failed", failed, all)},
          failed == all ? control::ExitCode::Generic : control::ExitCode::Partial,
          {}};
}

std::string json_text(const control::Json& json) { return dump(json, 2); }

Status print(std::string_view text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return {};
  return fail(errno != 0 ? errno : EIO, "cannot write to stdout");
}

}  // namespace rnbd::cli
