// SPDX-License-Identifier: Apache-2.0
// Whole requests through both RTRS engines and the server's dispatcher: from submit() to the
// answer, a batch at a time.
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "common/assert.h"
#include "micro/case.h"
#include "micro/engine_pair.h"

namespace rnbd::micro {
namespace {

class EngineStage final : public Stage, public rtrs::RequestOwner, public rtrs::PermitWaiter {
 public:
  EngineStage(rtrs::Direction direction, bool new_keys) : pair_(new_keys), direction_(direction) {
    const bool write = direction == rtrs::Direction::Write;
    message_.header = wire::header(wire::MessageType::Io);
    message_.device_id = NullServer::kDevice;
    message_.rw = std::to_underlying(write ? wire::Operation::Write : wire::Operation::Read);
    message_.size = kIoBytes;
  }

  void run(std::size_t times) override {
    for (std::size_t i = 0; i < times; i += kBatch) batch();
  }

 private:
  void batch() {
    RNBD_ASSERT(pair_.queue().acquire(permits_, *this));
    for (const rtrs::PermitId permit : permits_) {
      pair_.queue().submit(permit, direction_, kIoBytes, std::as_bytes(std::span(&message_, 1)),
                           *this);
    }
    for (answered_ = 0; answered_ < kBatch;) pair_.turn();
    pair_.queue().release(permits_);
  }

  void on_request_done(rtrs::PermitId, int error) override {
    RNBD_ASSERT(error == 0);
    ++answered_;
  }
  void on_request_renewed(rtrs::PermitId, std::span<std::byte>) override {}
  void on_permits_available() override {}

  EnginePair pair_;
  const rtrs::Direction direction_;
  wire::Io message_;
  std::array<rtrs::PermitId, kBatch> permits_{};
  std::size_t answered_ = 0;
};

Case engine(std::string name, rtrs::Direction direction, bool new_keys) {
  return {std::move(name), [=] { return std::make_unique<EngineStage>(direction, new_keys); }};
}

}  // namespace

std::vector<Case> engine_cases() {
  return {engine("engine-write", rtrs::Direction::Write, false),
          engine("engine-read", rtrs::Direction::Read, false),
          engine("engine-write-new-keys", rtrs::Direction::Write, true),
          engine("engine-read-new-keys", rtrs::Direction::Read, true)};
}

}  // namespace rnbd::micro
