// SPDX-License-Identifier: Apache-2.0
// The parts a request passes through, each alone: pure functions and the permits' bitmap.
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "client/io_plan.h"
#include "common/assert.h"
#include "common/rnbd_wire.h"
#include "micro/case.h"
#include "server/disk_request.h"
#include "transport/rtrs/immediate.h"
#include "transport/rtrs/permits.h"

namespace rnbd::micro {
namespace {

/// Keeps the compiler from knowing a value, so that work on it is neither dropped nor done before.
template <typename T>
void launder(T& value) {
  asm volatile("" : "+m"(value) : : "memory");
}

constexpr std::uint32_t kDepth = 512;
constexpr std::uint64_t kDiskSize = 1ULL << 30;

/// A stage that repeats one function of nothing.
class Repeat final : public Stage {
 public:
  explicit Repeat(std::move_only_function<void()> once) : once_(std::move(once)) {}
  void run(std::size_t times) override {
    for (std::size_t i = 0; i < times; ++i) once_();
  }

 private:
  std::move_only_function<void()> once_;
};

Case repeat(std::string name, void (*once)()) {
  return {std::move(name), [once] { return std::make_unique<Repeat>(once); }};
}

void immediate_round_trip() {
  std::uint32_t chunk = 77;
  launder(chunk);
  const rtrs::ChunkOffset sent{.chunk = chunk, .offset = kIoBytes};
  std::uint32_t wire = rtrs::Immediate(rtrs::ImmediateType::Request, sent.pack(kDepth)).value();
  launder(wire);
  const auto immediate = rtrs::Immediate::from_wire(wire);
  auto got = rtrs::ChunkOffset::unpack(immediate.payload(), kDepth);
  launder(got);
  rtrs::Outcome answer{.chunk = got.chunk, .error = 5};
  std::uint32_t back = rtrs::Immediate(rtrs::ImmediateType::Response, answer.pack()).value();
  launder(back);
  answer = rtrs::Outcome::unpack(rtrs::Immediate::from_wire(back).payload());
  launder(answer);
}

void parse_nbd() {
  client::NbdRequestHeader header;
  header.magic = client::kNbdRequestMagic;
  header.command = std::to_underlying(client::NbdCommand::Write);
  header.offset = 1 << 20;
  header.length = kIoBytes;
  client::DeviceShape shape{.size_bytes = kDiskSize};
  launder(header);
  launder(shape);
  const client::NbdRequest request = client::to_request(header);
  auto plan = client::plan_io(request, shape);
  launder(plan);
  auto piece = client::piece_length(plan.kind, request.offset, request.length, shape, 126976);
  launder(piece);
}

void parse_rnbd() {
  wire::Io message;
  message.header = wire::header(wire::MessageType::Io);
  message.sector = 2048;
  message.rw = std::to_underlying(wire::Operation::Write);
  message.size = kIoBytes;
  static std::array<std::byte, kIoBytes> data{};
  static server::WorkerDevice device{
      .open = true,
      .writable = true,
      .limits = {.sectors = kDiskSize / wire::kSectorSize, .logical_block_size = 512}};
  launder(message);
  auto operation = server::plan_operation(message, rtrs::Direction::Write, data, device);
  launder(operation);
}

/// A permit taken and given back, while a batch of others is out.
class Permits final : public Stage {
 public:
  Permits(std::shared_ptr<rtrs::PermitPool> pool, std::uint32_t share)
      : pool_(std::move(pool)), share_(share) {
    std::array<rtrs::PermitId, kBatch> out{};
    RNBD_ASSERT(pool_->acquire(share_, out));
  }
  void run(std::size_t times) override {
    for (std::size_t i = 0; i < times; ++i) {
      RNBD_ASSERT(pool_->acquire(share_, {&permit_, 1}));
      pool_->release({&permit_, 1});
    }
  }

 private:
  const std::shared_ptr<rtrs::PermitPool> pool_;
  const std::uint32_t share_;
  rtrs::PermitId permit_ = 0;
};

std::shared_ptr<rtrs::PermitPool> pool_of_two() {
  return std::make_shared<rtrs::PermitPool>(kDepth, 3);
}

Case permits() {
  return {.name = "permit",
          .make = [] { return std::make_unique<Permits>(pool_of_two(), 1); },
          .make_two =
              [] {
                const auto pool = pool_of_two();
                return StagePair{std::make_unique<Permits>(pool, 1),
                                 std::make_unique<Permits>(pool, 2)};
              }};
}

}  // namespace

std::vector<Case> part_cases() {
  return {repeat("immediate", immediate_round_trip), repeat("parse-nbd", parse_nbd),
          repeat("parse-rnbd", parse_rnbd), permits()};
}

}  // namespace rnbd::micro
