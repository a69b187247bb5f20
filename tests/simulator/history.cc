// SPDX-License-Identifier: Apache-2.0
#include "simulator/history.h"

#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rnbd::simulator {
namespace {

struct Stamp {
  std::uint32_t disk = 0;
  std::uint32_t sector = 0;
  Version version = 0;
  std::uint32_t check = 0;
  bool operator==(const Stamp&) const = default;
};

bool is_zero(std::span<const std::byte> data) {
  return std::ranges::all_of(data, [](std::byte one) { return one == std::byte{0}; });
}

bool contains(const std::vector<Version>& all, Version one) {
  return std::ranges::find(all, one) != all.end();
}

}  // namespace

void History::begin_write(Range range, bool zeroes) {
  for (std::uint32_t i = range.first; i < range.first + range.count; ++i) {
    Sector& sector = sectors_[i];
    ++sector.last;
    ++sector.changes;
    sector.begun = power_losses_;
    sector.writing = true;
    if (zeroes) sector.zeroes.push_back(sector.last);
    add_possible(i, sector.last);
  }
}

void History::end_write(Range range, bool done, bool durable) {
  for (std::uint32_t i = range.first; i < range.first + range.count; ++i) {
    Sector& sector = sectors_[i];
    ++sector.changes;
    sector.writing = false;
    sector.unsure = !done;
    if (!done || (sector.begun != power_losses_ && !durable)) continue;
    sector.acknowledged = sector.last;
    sector.possible = {sector.last};
    if (durable) sector.durable = sector.last;
    if (reads_.empty()) {
      std::erase_if(sector.zeroes, [&](Version one) { return one < sector.durable; });
    }
  }
}

void History::end_trim(Range range) {
  for (std::uint32_t i = range.first; i < range.first + range.count; ++i) {
    ++sectors_[i].changes;
    sectors_[i].writing = false;
  }
}

std::vector<std::byte> History::data(Range range) const {
  std::vector<std::byte> bytes(range.count * kSector);
  for (std::uint32_t i = 0; i < range.count; ++i) {
    fill(range.first + i, sectors_[range.first + i].last,
         std::span(bytes).subspan(i * kSector, kSector));
  }
  return bytes;
}

History::Flush History::begin_flush() const {
  Flush flush;
  flush.power_losses = power_losses_;
  flush.versions.reserve(sectors_.size());
  for (const Sector& sector : sectors_) flush.versions.push_back(sector.acknowledged);
  return flush;
}

void History::end_flush(const Flush& flush) {
  if (flush.power_losses != power_losses_) return;
  for (std::size_t i = 0; i < sectors_.size(); ++i) {
    sectors_[i].durable = std::max(sectors_[i].durable, flush.versions[i]);
  }
}

History::ReadId History::begin_read(Range range) {
  Read read{range, {}, {}};
  for (std::uint32_t i = 0; i < range.count; ++i) {
    read.possible.push_back(sectors_[range.first + i].possible);
    read.changes.push_back(sectors_[range.first + i].changes);
  }
  return reads_.insert(reads_.end(), std::move(read));
}

std::optional<std::string> History::end_read(ReadId read, std::span<const std::byte> data) {
  const Read done = std::move(*read);
  reads_.erase(read);
  for (std::uint32_t i = 0; i < done.range.count; ++i) {
    const std::uint32_t number = done.range.first + i;
    Sector& sector = sectors_[number];
    const auto bytes = data.subspan(i * kSector, kSector);
    const auto version = version_of(sector, number, bytes, done.possible[i]);
    if (!version) {
      Stamp stamp;
      std::memcpy(&stamp, bytes.data(), sizeof stamp);
      return fmt::format(
          "disk {} sector {}: it has disk {} sector {} version {}{}; possible are versions {}",
          disk_, number, stamp.disk, stamp.sector, stamp.version, is_zero(bytes) ? " (zeroes)" : "",
          fmt::join(done.possible[i], ", "));
    }
    // Nothing else has happened to it since, nor can: from now on it has this version.
    const bool settled = !sector.unsure && !sector.writing && sector.changes == done.changes[i];
    if (settled) sector.possible = {*version};
  }
  return {};
}

void History::lose_power() {
  ++power_losses_;
  for (std::uint32_t i = 0; i < sectors_.size(); ++i) {
    Sector& sector = sectors_[i];
    for (Version version = sector.durable; version <= sector.last; ++version) {
      add_possible(i, version);
    }
    sector.acknowledged = sector.durable;
    ++sector.changes;
  }
}

void History::add_possible(std::uint32_t number, Version version) {
  const auto add = [version](std::vector<Version>& all) {
    if (!contains(all, version)) all.push_back(version);
  };
  add(sectors_[number].possible);
  for (Read& read : reads_) {
    const std::uint32_t offset = number - read.range.first;
    if (offset < read.range.count) add(read.possible[offset]);
  }
}

void History::fill(std::uint32_t sector, Version version, std::span<std::byte> target) const {
  const Stamp stamp{disk_ + 1, sector, version, (disk_ + 1) ^ (sector * 2654435761U) ^ version};
  for (std::size_t at = 0; at < target.size(); at += sizeof stamp) {
    std::memcpy(target.data() + at, &stamp, sizeof stamp);
  }
}

std::optional<Version> History::version_of(const Sector& sector, std::uint32_t number,
                                           std::span<const std::byte> data,
                                           const std::vector<Version>& possible) const {
  if (is_zero(data)) {
    const auto found = std::ranges::find_if(
        possible, [&](Version one) { return one == 0 || contains(sector.zeroes, one); });
    return found == possible.end() ? std::nullopt : std::optional(*found);
  }
  Stamp stamp;
  std::memcpy(&stamp, data.data(), sizeof stamp);
  std::vector<std::byte> expected(kSector);
  fill(number, stamp.version, expected);
  const bool whole = std::ranges::equal(expected, data);
  return whole && contains(possible, stamp.version) ? std::optional(stamp.version) : std::nullopt;
}

}  // namespace rnbd::simulator
