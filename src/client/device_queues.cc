// SPDX-License-Identifier: Apache-2.0
#include "client/device_queues.h"

#include <utility>

#include "common/assert.h"
#include "common/countdown.h"

namespace rnbd::client {

Result<std::unique_ptr<DeviceQueues>> DeviceQueues::create(
    rtrs::ClientSession& session, Executor& control, std::vector<UniqueFd> sockets,
    const DeviceFile& file, const BlockQueue::Config& config, BlockQueueEvents& events) {
  RNBD_ASSERT(sockets.size() <= file.queues());
  std::unique_ptr<DeviceQueues> queues(new DeviceQueues(control));
  for (std::uint32_t i = 0; i < sockets.size(); ++i) {
    rtrs::SessionQueue& channel = session.queue(i % session.queues());
    auto queue = BlockQueue::create(channel.worker(), channel, std::move(sockets[i]),
                                    file.journal(i), config, events);
    if (!queue) return fail(queue.error());
    queues->members_.push_back({&channel.worker(), std::move(*queue)});
  }
  return queues;
}

void DeviceQueues::start() {
  on_each([](Member& member) { member.queue->start(); }, [] {});
}

void DeviceQueues::drain(Executor::Task done) {
  if (ending_) {
    control_.post(std::move(done));
    return;
  }
  const Countdown one_done(members_.size(), std::move(done));
  for (Member& member : members_) {
    member.worker->post([this, &member, one_done] {
      member.queue->drain([this, one_done] { control_.post(one_done); });
    });
  }
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

void DeviceQueues::set_shape(const DeviceShape& shape, Executor::Task done) {
  on_each([shape](Member& member) { member.queue->set_shape(shape); }, std::move(done));
}

void DeviceQueues::count(std::move_only_function<void(const BlockQueueCounters&)> done) {
  if (ending_) return done({});
  counting_.push_back(std::move(done));
  if (counting_.size() > 1) return;  // what is on its way answers this one too
  on_each([](Member& member) { member.counted = member.queue->counters(); },
          [this] {
            BlockQueueCounters sum;
            for (const Member& member : members_) sum += member.counted;
            for (auto& waiting : std::exchange(counting_, {})) waiting(sum);
          });
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
