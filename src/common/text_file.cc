// SPDX-License-Identifier: Apache-2.0
#include "common/text_file.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "common/unique_fd.h"

namespace rnbd {

Result<std::string> read_text_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail(errno, fmt::format("cannot open {}", path));
  std::string text;
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got == 0) return text;
    if (got < 0) return fail(errno, fmt::format("cannot read {}", path));
    text.append(piece.data(), static_cast<std::size_t>(got));
    if (text.size() > kMaxTextFile) {
      return fail(EFBIG, fmt::format("{} has more than {} bytes", path, kMaxTextFile));
    }
  }
}

}  // namespace rnbd
