// SPDX-License-Identifier: Apache-2.0
// Words of a fixed vocabulary, and the one that somebody who mistyped probably meant. Pure; for
// command lines, mapping words and configuration files.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/result.h"

namespace rnbd {

/// Single edits (insert, drop, change a letter, swap two neighbours) that lead from `a` to `b`.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

/// The word of `vocabulary` that is nearest to `word`; none if nothing is near: then a guess would
/// mislead. Near is up to a third of the letters mistyped, or a part of the right word.
inline std::optional<std::string_view> nearest_word(std::string_view word,
                                                    std::span<const std::string_view> vocabulary) {
  constexpr std::size_t kLongest = 64;  // of what people type; bounds the work
  if (word.empty() || word.size() > kLongest) return std::nullopt;
  std::optional<std::string_view> nearest;
  std::size_t shortest = kLongest;
  for (const std::string_view candidate : vocabulary) {
    const std::size_t limit = std::max<std::size_t>(1, std::max(word.size(), candidate.size()) / 3);
    const std::size_t distance = edit_distance(word, candidate);
    if (distance <= limit && distance < candidate.size() && distance < shortest) {
      shortest = distance;
      nearest = candidate;
    }
  }
  if (nearest || word.size() < 3) return nearest;
  for (const std::string_view candidate : vocabulary) {
    if (!candidate.contains(word)) continue;
    if (!nearest || candidate.size() < nearest->size()) nearest = candidate;
  }
  return nearest;
}

/// "; did you mean 'ro'?", or nothing.
inline std::string did_you_mean(std::string_view word,
                                std::span<const std::string_view> vocabulary) {
  const auto nearest = nearest_word(word, vocabulary);
  return nearest ? "; did you mean '" + std::string(*nearest) + "'?" : std::string();
}

/// What log::start() understands.
inline constexpr std::array<std::string_view, 4> kLogLevels = {"debug", "info", "warning", "error"};

/// EINVAL, with a message that begins with the option's name.
inline Status check_log_level(std::string_view level) {
  if (std::ranges::find(kLogLevels, level) != kLogLevels.end()) return {};
  return fail(EINVAL,
              fmt::format("log_level must be one of {}, not '{}'{}", fmt::join(kLogLevels, ", "),
                          level, did_you_mean(level, kLogLevels)));
}

/// Where a daemon keeps what outlives it; empty: nowhere. EINVAL, as above.
inline Status check_state_dir(std::string_view path) {
  if (path.empty() || path.starts_with('/')) return {};
  return fail(EINVAL, fmt::format("state_dir must begin with '/', not be '{}'", path));
}

}  // namespace rnbd
