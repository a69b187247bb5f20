// SPDX-License-Identifier: Apache-2.0
#include "simulator/disk_user.h"

#include <algorithm>
#include <cerrno>

#include "client/nbd_wire.h"

namespace rnbd::simulator {

using client::NbdCommand;

namespace {

std::string_view name_of(NbdCommand command) {
  switch (command) {
    case NbdCommand::Read:
      return "read";
    case NbdCommand::Write:
      return "write";
    case NbdCommand::Disconnect:
      return "disconnect";
    case NbdCommand::Flush:
      return "flush";
    case NbdCommand::Trim:
      return "trim";
    case NbdCommand::WriteZeroes:
      return "write zeroes";
  }
  return "?";
}

}  // namespace

void DiskUser::begin() {
  if (device_ != nullptr && !resting_) burst();
  world_.after(world_.some_while(habits_.pause), [this] { begin(); });
}

void DiskUser::burst() {
  for (std::uint32_t i = world_.below(habits_.depth + 1); i > 0; --i) {
    if (under_way_ < habits_.depth) issue_any();
  }
}

void DiskUser::issue_any() {
  const std::uint32_t most =
      std::min(habits_.most_sectors, device_->max_request() / static_cast<std::uint32_t>(kSector));
  if (!habits_.writes) return read(any_range(most));
  const Range range = any_range(world_.one_in(4) ? most : 4);
  const std::uint32_t kind = world_.below(16);
  if (kind < 5) return read(range);
  if (kind == 5) return flush();
  if (overlaps_a_write(range)) return;
  const std::uint64_t flags = device_->config().server_flags;
  if (kind == 6 && (flags & client::kNbdSendTrim) != 0) return zero(range, NbdCommand::Trim);
  if (kind == 7 && (flags & client::kNbdSendWriteZeroes) != 0) {
    return zero(range, NbdCommand::WriteZeroes);
  }
  write(range);
}

Range DiskUser::any_range(std::uint32_t most) {
  const std::uint32_t block = device_->config().block_size / kSector;
  const std::uint32_t blocks = sectors() / block;
  const std::uint32_t count = std::min(1 + world_.below(std::max(most / block, 1U)), blocks);
  return {world_.below(blocks - count + 1) * block, count * block};
}

std::uint32_t DiskUser::sectors() const {
  return static_cast<std::uint32_t>(device_->config().size_bytes / kSector);
}

bool DiskUser::overlaps_a_write(Range range) const {
  return std::ranges::any_of(writing_, [&](const Range& other) {
    return other.first < range.first + range.count && range.first < other.first + other.count;
  });
}

void DiskUser::submit(NbdCommand command, Range range, bool fua, std::vector<std::byte> data,
                      DeviceRequest::Done done) {
  ++under_way_;
  world_.detail("{}: {} {}+{}{}", name_, name_of(command), range.first, range.count,
                fua ? " fua" : "");
  device_->submit({.command = command,
                   .fua = fua,
                   .offset = std::uint64_t{range.first} * kSector,
                   .length = range.count * static_cast<std::uint32_t>(kSector),
                   .data = std::move(data),
                   .done = std::move(done)});
}

void DiskUser::settle(int error, NbdCommand command, Range range) {
  --under_way_;
  ++answered_;
  world_.detail("{}: {} {}+{} answered with {}", name_, name_of(command), range.first, range.count,
                error);
  const bool explained = error == 0 || error == ENODEV || errors_are_fine || gives_up_ ||
                         history_.was_cut_short(range);
  if (!explained) {
    world_.fail("{}: {} of {}+{} failed with {} for no reason", name_, name_of(command),
                range.first, range.count, error);
  }
}

void DiskUser::read(Range range) {
  const auto id = history_.begin_read(range);
  submit(NbdCommand::Read, range, false, {},
         [this, id, range](int error, std::span<const std::byte> data) {
           settle(error, NbdCommand::Read, range);
           if (error != 0) return history_.forget_read(id);
           if (const auto wrong = history_.end_read(id, data)) {
             world_.fail("{}: {}", name_, *wrong);
           }
         });
}

void DiskUser::read_all() {
  const std::uint32_t step = device_->max_request() / static_cast<std::uint32_t>(kSector);
  for (std::uint32_t at = 0; at < sectors(); at += step) {
    read({at, std::min(step, sectors() - at)});
  }
}

void DiskUser::write(Range range) {
  const bool fua = world_.one_in(8) && (device_->config().server_flags & client::kNbdSendFua) != 0;
  history_.begin_write(range, false);
  const auto place = writing_.insert(writing_.end(), range);
  submit(NbdCommand::Write, range, fua, history_.data(range),
         [this, place, range, fua](int error, std::span<const std::byte>) {
           settle(error, NbdCommand::Write, range);
           writing_.erase(place);
           history_.end_write(range, error == 0, fua);
         });
}

void DiskUser::zero(Range range, NbdCommand command) {
  history_.begin_write(range, true);
  const auto place = writing_.insert(writing_.end(), range);
  submit(command, range, false, {},
         [this, place, range, command](int error, std::span<const std::byte>) {
           settle(error, command, range);
           writing_.erase(place);
           if (error == 0 && command == NbdCommand::Trim) {
             history_.end_trim(range);
           } else {
             history_.end_write(range, error == 0, false);
           }
         });
}

void DiskUser::flush() {
  submit(NbdCommand::Flush, {}, false, {},
         [this, flush = history_.begin_flush()](int error, std::span<const std::byte>) {
           settle(error, NbdCommand::Flush, {});
           if (error == 0) history_.end_flush(flush);
         });
}

}  // namespace rnbd::simulator
