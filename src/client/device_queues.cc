// SPDX-License-Identifier: Apache-2.0
#include "client/device_queues.h"

#include "client/nbd_socket.h"
#include "common/assert.h"
#include "common/countdown.h"

namespace rnbd::client {
namespace {

/// Room for several requests of the largest size: AF_UNIX charges the sender.
constexpr int kSocketBuffer = 4 << 20;

}  // namespace

Result<std::unique_ptr<DeviceQueues>> DeviceQueues::create(rtrs::ClientSession& session,
                                                           Executor& control, std::size_t count,
                                                           const BlockQueue::Config& config,
                                                           BlockQueueEvents& events) {
  RNBD_ASSERT(count <= session.queues());
  std::unique_ptr<DeviceQueues> queues(new DeviceQueues(control));
  for (std::size_t i = 0; i < count; ++i) {
    auto pair = make_nbd_socket_pair(kSocketBuffer);
    if (!pair) return fail(pair.error());
    rtrs::SessionQueue& channel = session.queue(i);
    auto queue =
        BlockQueue::create(channel.worker(), channel, std::move(pair->ours), config, events);
    if (!queue) return fail(queue.error());
    queues->members_.push_back({&channel.worker(), std::move(*queue)});
    queues->kernel_ends_.push_back(std::move(pair->kernels));
  }
  return queues;
}

void DeviceQueues::start() {
  on_each([](Member& member) { member.queue->start(); }, [] {});
}

void DeviceQueues::fail_all(Executor::Task done) {
  on_each([](Member& member) { member.queue->close(); }, std::move(done));
}

void DeviceQueues::serve_again() {
  on_each([](Member& member) { member.queue->reopen(); }, [] {});
}

std::uint32_t DeviceQueues::in_flight() const {
  std::uint32_t sum = 0;
  // Once they end, they are their workers' to destroy.
  for (const Member& member : members_) sum += ending_ ? 0 : member.queue->in_flight();
  return sum;
}

void DeviceQueues::set_device(std::uint32_t device_id, const DeviceShape& shape,
                              Executor::Task done) {
  on_each(
      [device_id, shape](Member& member) {
        member.queue->set_device_id(device_id);
        member.queue->set_shape(shape);
      },
      std::move(done));
}

void DeviceQueues::destroy(Executor::Task done) {
  RNBD_ASSERT(!ending_);
  on_each([](Member& member) { member.queue.reset(); }, std::move(done));
  ending_ = true;
}

void DeviceQueues::on_each(const std::function<void(Member&)>& step, Executor::Task done) {
  if (ending_) {
    control_.post(std::move(done));
    return;
  }
  const Countdown one_done(members_.size(), std::move(done));
  for (Member& member : members_) {
    member.worker->post([this, &member, step, one_done] {
      step(member);
      control_.post(one_done);
    });
  }
}

}  // namespace rnbd::client
