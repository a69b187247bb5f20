// SPDX-License-Identifier: Apache-2.0
// What a disk's sectors may hold, as its users know it: each write gives a sector a new version,
// and a read must find one that is possible at that moment. One writer to a sector at a time.
//
//  * A write that was answered replaces every other version; so none of those may come back.
//  * A write that is under way, or failed, may have happened, or happen still.
//  * When the server's host loses its power, what was not flushed may be lost, each sector for
//    itself, and so may be what was done already and not answered yet; what a flush or a FUA write
//    has covered may not.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace rnbd::simulator {

inline constexpr std::size_t kSector = 512;

using Version = std::uint32_t;  ///< 0: the zeroes that were there at the beginning

/// Sectors, from the start of the disk.
struct Range {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

class History {
 public:
  History(std::uint32_t disk, std::uint32_t sectors)
      : disk_(disk), smallest_(sectors), sectors_(sectors) {}

  /// The disk ends elsewhere now. What it once had stays what it was.
  void set_size(std::uint32_t sectors) { smallest_ = std::min(smallest_, sectors); }
  /// It may once have ended inside of the range.
  [[nodiscard]] bool was_cut_short(Range range) const {
    return range.first + range.count > smallest_;
  }

  /// New versions for all of them; `zeroes`: by an operation that leaves zeroes.
  void begin_write(Range range, bool zeroes);
  /// `done`: it was answered without an error; `durable`: and as FUA.
  void end_write(Range range, bool done, bool durable);
  /// A trim that began with begin_write() was answered: each sector is zeroes, or what it was.
  void end_trim(Range range);
  /// What a write has to carry.
  [[nodiscard]] std::vector<std::byte> data(Range range) const;

  struct Flush {
    std::vector<Version> versions;
    std::uint32_t power_losses = 0;
  };
  /// What a flush that begins now has to make durable: nothing, if the power goes meanwhile and it
  /// is sent again to a server that knows nothing any more.
  [[nodiscard]] Flush begin_flush() const;
  void end_flush(const Flush& flush);

  struct Read {
    Range range;
    std::vector<std::vector<Version>> possible;
    std::vector<std::uint32_t> changes;  ///< that its sectors had seen
  };
  using ReadId = std::list<Read>::iterator;
  ReadId begin_read(Range range);
  void forget_read(ReadId read) { reads_.erase(read); }
  /// What is wrong with what it got; nothing is.
  std::optional<std::string> end_read(ReadId read, std::span<const std::byte> data);

  void lose_power();

 private:
  struct Sector {
    Version last = 0;                  ///< that any write has got
    Version acknowledged = 0;          ///< the newest that was answered
    Version durable = 0;               ///< at least
    std::vector<Version> possible{0};  ///< that a read may find
    std::vector<Version> zeroes;       ///< versions that are zeroes, beside 0
    std::uint32_t changes = 0;         ///< writes and trims that began or ended, and the like
    std::uint32_t begun = 0;           ///< power losses before the last write
    bool writing = false;              ///< the last version's write is under way
    bool unsure = false;               ///< it failed, and may still happen
  };

  void fill(std::uint32_t sector, Version version, std::span<std::byte> target) const;
  [[nodiscard]] std::optional<Version> version_of(const Sector& sector, std::uint32_t number,
                                                  std::span<const std::byte> data,
                                                  const std::vector<Version>& possible) const;
  void add_possible(std::uint32_t number, Version version);

  const std::uint32_t disk_;
  std::uint32_t smallest_ = 0;  ///< sectors that it has always had
  std::vector<Sector> sectors_;
  std::list<Read> reads_;  ///< under way
  std::uint32_t power_losses_ = 0;
};

}  // namespace rnbd::simulator
