// SPDX-License-Identifier: Apache-2.0
#include "simulator/model_disk.h"

#include <algorithm>
#include <cerrno>

#include <sys/stat.h>

#include "common/assert.h"

namespace rnbd::simulator {

using server::StoreOperation;

void ModelDisk::execute(const StoreOperation& operation, std::uint32_t sector, bool through) {
  const std::size_t at = operation.offset + std::size_t{sector} * kSector;
  RNBD_ASSERT(at + kSector <= current_.size());
  const auto place = std::span(current_).subspan(at, kSector);
  switch (operation.kind) {
    case StoreOperation::Kind::Read:
      std::ranges::copy(place, operation.data + std::size_t{sector} * kSector);
      return;
    case StoreOperation::Kind::Write:
      std::copy_n(operation.data + std::size_t{sector} * kSector, kSector, place.begin());
      break;
    case StoreOperation::Kind::Discard:
    case StoreOperation::Kind::WriteZeroes:
      std::ranges::fill(place, std::byte{0});
      break;
    case StoreOperation::Kind::Flush:
      return;
  }
  if (through) std::ranges::copy(place, durable_.begin() + static_cast<std::ptrdiff_t>(at));
}

void ModelDisk::lose_power(World& world) {
  for (std::size_t at = 0; at < current_.size(); at += kSector) {
    if (world.one_in(2))
      std::copy_n(durable_.begin() + static_cast<std::ptrdiff_t>(at), kSector,
                  current_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  durable_ = current_;
}

int ModelStore::register_file(int fd) {
  struct stat status{};
  RNBD_ASSERT(::fstat(fd, &status) == 0);
  slots_.push_back(disks_.at(status.st_ino));
  return static_cast<int>(slots_.size() - 1);
}

void ModelStore::submit(const StoreOperation& operation, const server::StoreTarget& target,
                        server::StoreClient& client) {
  const bool changes = operation.kind != StoreOperation::Kind::Read;
  under_way_.push_back({.operation = operation,
                        .disk = slots_.at(static_cast<std::size_t>(target.file_slot)),
                        .through = changes && (operation.fua || target.write_through),
                        .client = &client});
  RNBD_ASSERT(under_way_.back().disk != nullptr);
  const auto place = std::prev(under_way_.end());
  world_.after(world_.some_time(mood_.slowest), [this, place, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) execute(place);
  });
}

void ModelStore::execute(Place place) {
  const auto alive = std::weak_ptr(alive_);
  if (mood_.stuck) {
    world_.after(std::chrono::milliseconds(50), [this, place, alive] {
      if (!alive.expired()) execute(place);
    });
    return;
  }
  UnderWay& one = *place;
  if (mood_.fails_one_in != 0 && world_.one_in(mood_.fails_one_in)) {
    one.error = EIO;
  } else if (one.operation.kind == StoreOperation::Kind::Flush) {
    world_.detail("{}: flushed", one.disk->name());
    one.disk->flush();
  } else {
    world_.detail("{}: {} {}+{}", one.disk->name(), static_cast<int>(one.operation.kind),
                  one.operation.offset / kSector, one.operation.length / kSector);
    for (std::uint32_t sector = 0; sector * kSector < one.operation.length; ++sector) {
      one.disk->execute(one.operation, sector, one.through);
    }
  }
  one.executed = true;
  world_.after(world_.some_time(mood_.slowest), [this, place, alive] {
    if (!alive.expired()) end(place);
  });
}

void ModelStore::end(Place place) {
  worker_.post([client = place->client, error = place->error] { client->on_store_done(error); });
  under_way_.erase(place);
}

void ModelStore::die() {
  for (const UnderWay& one : under_way_) {
    const bool changes = one.operation.kind != StoreOperation::Kind::Read &&
                         one.operation.kind != StoreOperation::Kind::Flush;
    if (one.executed || !changes) continue;
    for (std::uint32_t sector = 0; sector * kSector < one.operation.length; ++sector) {
      if (world_.one_in(2)) one.disk->execute(one.operation, sector, one.through);
    }
  }
  alive_.reset();
}

}  // namespace rnbd::simulator
