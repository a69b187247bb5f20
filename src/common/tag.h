// SPDX-License-Identifier: Apache-2.0
// What travels through wr_id and user_data instead of a pointer: whose it is, which one, and which
// life of that slot. A tag of an earlier life is recognised and dropped.
#pragma once

#include <cstdint>

namespace rnbd {

struct Tag {
  std::uint16_t kind = 0;
  std::uint16_t generation = 0;
  std::uint32_t index = 0;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{kind} << 48 | std::uint64_t{generation} << 32 | index;
  }
  static constexpr Tag unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word >> 48), static_cast<std::uint16_t>(word >> 32),
            static_cast<std::uint32_t>(word)};
  }
  friend constexpr bool operator==(const Tag&, const Tag&) = default;
};

static_assert(Tag::unpack(Tag{7, 9, 0xfedcba98}.pack()) == Tag{7, 9, 0xfedcba98});

}  // namespace rnbd
