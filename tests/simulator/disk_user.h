// SPDX-License-Identifier: Apache-2.0
// Somebody who uses a mapped disk as hard as he may, and believes nothing: every answer is checked
// against the disk's history. One thread.
#pragma once

#include <cstdint>
#include <list>
#include <string>

#include "simulator/history.h"
#include "simulator/nbd_kernel.h"
#include "simulator/world.h"

namespace rnbd::simulator {

struct UserHabits {
  bool writes = true;
  std::uint32_t depth = 8;
  std::uint32_t most_sectors = 32;  ///< of one request
  Duration pause = std::chrono::milliseconds(200);
};

class DiskUser {
 public:
  DiskUser(World& world, std::string name, History& history, const UserHabits& habits)
      : world_(world), name_(std::move(name)), history_(history), habits_(habits) {}

  /// A device to use from now on; nullptr: there is none any more.
  void set_device(NbdDevice* device) {
    device_ = device;
    gives_up_ = false;
  }
  /// Its device is being unmapped by force.
  void expect_errors() { gives_up_ = true; }
  [[nodiscard]] NbdDevice* device() const { return device_; }

  /// A burst of requests, and another one some time later; once, at the beginning.
  void begin();
  /// No new requests until begin_again().
  void rest() { resting_ = true; }
  void begin_again() { resting_ = false; }

  /// Reads every sector there is.
  void read_all();

  [[nodiscard]] std::size_t under_way() const { return under_way_; }
  [[nodiscard]] std::uint64_t answered() const { return answered_; }

  /// Answers of the disk's with an error are to be expected.
  bool errors_are_fine = false;

 private:
  void burst();
  void issue_any();
  [[nodiscard]] std::uint32_t sectors() const;  ///< of its device
  [[nodiscard]] Range any_range(std::uint32_t most);
  [[nodiscard]] bool overlaps_a_write(Range range) const;
  void read(Range range);
  void write(Range range);
  void zero(Range range, client::NbdCommand command);
  void flush();
  void submit(client::NbdCommand command, Range range, bool fua, std::vector<std::byte> data,
              DeviceRequest::Done done);
  void settle(int error, client::NbdCommand command, Range range);

  World& world_;
  const std::string name_;
  History& history_;
  const UserHabits habits_;
  NbdDevice* device_ = nullptr;
  std::list<Range> writing_;
  std::size_t under_way_ = 0;
  std::uint64_t answered_ = 0;
  bool resting_ = false;
  bool gives_up_ = false;
};

}  // namespace rnbd::simulator
