// SPDX-License-Identifier: Apache-2.0
// How a call that can fail answers: a value, or an Error that keeps the errno and what was being
// done when it came. Used for the operating system's and a peer's errors; never for our own bugs
// (assert.h).
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace rnbd {

/// What went wrong. `code` is a positive errno; `message` is a full sentence fragment for people,
/// without the name of the errno ("cannot open /dev/sdz").
struct Error {
  int code = 0;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;

using Status = std::expected<void, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(int code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

[[nodiscard]] inline std::unexpected<Error> fail(Error error) {
  return std::unexpected(std::move(error));
}

/// "ENOENT" for 2; "E1234" for a number without a name.
std::string errno_name(int code);

/// "cannot open /dev/sdz: No such file or directory (ENOENT)".
std::string describe(const Error& error);

}  // namespace rnbd
