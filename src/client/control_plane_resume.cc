// SPDX-License-Identifier: Apache-2.0
// ControlPlane, second part: going on with the devices of a process before this one, and leaving
// them to the one that comes next.
#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "client/control_plane.h"
#include "common/control/verbs.h"
#include "common/countdown.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

/// How long a planned leave waits for servers and for what commands have begun. Then it is like a
/// crash, which the successor understands as well.
constexpr std::chrono::milliseconds kHandOverPatience{2000};
constexpr std::chrono::milliseconds kLookAgain{20};

/// Half of that is for what has begun: a server may keep a map waiting for as long as it likes, and
/// the devices that others use want to be brought to rest.
constexpr unsigned kLooks = 50;
static_assert(kLooks * kLookAgain <= kHandOverPatience / 2);

bool is_changing(const Device& device) {
  return (device.state() != DeviceState::Open && device.state() != DeviceState::Gone) ||
         device.telling_kernel();
}

}  // namespace

rtrs::SessionCore::MakeMemory ControlPlane::kept_memory(const std::string& name) {
  return [this, name](std::size_t bytes) -> Result<MemoryBlock> {
    if (!keeper_.has_keeper()) return MemoryBlock::map(bytes);
    auto file = MemoryBlock::make_file("rnbd-buffers", bytes);
    if (!file) return fail(file.error());
    if (Status kept = keeper_.keep(name, file->get()); !kept) return fail(kept.error());
    return MemoryBlock::map_file(file->get(), bytes);
  };
}

Status ControlPlane::resume() {
  auto left = sort_out(keeper_.take_inherited());
  if (!left) return fail(left.error());
  last_number_ = left->highest;
  for (const std::string& name : left->useless) keeper_.forget(name);
  for (LeftDevice& device : left->unfinished) clear_away(device);
  for (auto& [name, memory] : left->memories) {
    const auto others = std::ranges::partition(
        left->devices, [&](const LeftDevice& one) { return one.record.memory != name; });
    std::vector<LeftDevice> devices;
    std::ranges::move(others, std::back_inserter(devices));
    left->devices.erase(others.begin(), others.end());
    resume_session(std::move(devices), std::move(memory));
  }
  for (LeftDevice& device : left->devices) give_up(device, {ENOENT, "its buffers are not there"});
  return {};
}

void ControlPlane::resume_session(std::vector<LeftDevice> devices, UniqueFd memory) {
  const DeviceRecord first = devices.front().record;
  rtrs::SessionSettings settings = first.session;
  settings.resumed = {.parameters = first.parameters, .held_permits = {}};
  std::vector<LeftDevice> sound;
  for (LeftDevice& device : devices) {
    if (auto held = held_permits(device.file, first.parameters)) {
      std::ranges::copy(*held, std::back_inserter(settings.resumed->held_permits));
      sound.push_back(std::move(device));
    } else {
      give_up(device, held.error());
    }
  }
  const int file = memory.get();
  settings.make_memory = [file](std::size_t bytes) {
    struct stat status{};
    const bool fits = file >= 0 && ::fstat(file, &status) == 0 &&
                      static_cast<std::size_t>(status.st_size) == bytes;
    return fits ? MemoryBlock::map_file(file, bytes)
                : Result<MemoryBlock>(fail(EPROTO, "the buffers that were left do not fit"));
  };
  sessions_.push_back(std::make_unique<RnbdSession>(fabric_, control_, workers_,
                                                    std::move(settings), first.memory, events_));
  RnbdSession& session = *sessions_.back();
  Status started = session.start();
  for (LeftDevice& device : sound) {
    if (started) {
      if (Status resumed = resume_device(session, device); !resumed) {
        give_up(device, resumed.error());
      }
    } else {
      give_up(device, started.error());
    }
  }
  end_session_if_unused(session);
}

Status ControlPlane::resume_device(RnbdSession& session, LeftDevice& left) {
  Device::Events& events = *this;
  auto device = std::make_unique<Device>(session, control_, nbd_, keeper_, left.name,
                                         left.record.request, slow_io_, events, events_);
  Status resumed = device->resume(std::move(left.file), left.record, std::move(left.sockets));
  if (resumed) devices_.push_back(std::move(device));
  return resumed;
}

/// Its users get errors: there is nothing that could be done for them.
void ControlPlane::give_up(LeftDevice& device, const Error& why) {
  log::error("/dev/nbd{} ({}) cannot go on: {}", device.record.index.value_or(0),
             device.record.request.device_path, describe(why));
  clear_away(device);
}

void ControlPlane::clear_away(LeftDevice& device) {
  for (std::size_t i = 0; i < device.file.queues(); ++i) {
    keeper_.forget(socket_name(device.name, i));
  }
  device.sockets.clear();
  ++clearing_;
  nbd_.detach_leftover(device.record.index, backend_of(device.record.request),
                       [this, name = device.name](const Status& gone) {
                         // Not before: a process after this one has to know of it.
                         keeper_.forget(name);
                         on_cleared(gone);
                       });
}

/// What is mapped before the last one has gone has the same name, perhaps, and would go with it.
void ControlPlane::on_cleared(const Status& gone) {
  if (!gone) log::warn("a device stays behind: {}", describe(gone.error()));
  if (--clearing_ > 0) return;
  for (Executor::Task& waiting : std::exchange(behind_clearing_, {})) waiting();
}

/// Who waits to begin something is told that nothing begins any more.
void ControlPlane::let_waiting_go() {
  for (Executor::Task& waiting : std::exchange(behind_clearing_, {})) waiting();
  for (Executor::Task& waiting : std::exchange(deferred_, {})) waiting();
  for (const auto& session : sessions_) session->give_up_comeback(may_begin());
}

void ControlPlane::upgrade(const control::Json& args, control::Reply reply) {
  const auto journals = control::read_upgrade_args(args);
  if (!journals) return reply(fail(journals.error()));
  if (!keeper_.has_keeper()) {
    return reply(fail(EOPNOTSUPP,
                      "nobody keeps the devices meanwhile\n"
                      "run the daemon under systemd, or with --supervise"));
  }
  if (*journals != control::kJournalVersion && !devices_.empty()) {
    return reply(fail(EPROTO, fmt::format("the new program reads journals {}, those of the mapped "
                                          "devices are {}\nunmap them first",
                                          *journals, control::kJournalVersion)));
  }
  reply(control::Json::object());
  leave_();
}

void ControlPlane::hand_over(Executor::Task done) {
  if (on_handed_over_ || on_stopped_) return;
  on_handed_over_ = std::move(done);
  hand_over_patience_ = control_.call_after(kHandOverPatience, [this] { finish_handing_over(); });
  let_waiting_go();
  drain_all(kLooks);
}

/// `looks`: how often to look whether what has begun has come to an end. What has not by then is
/// left as it is.
void ControlPlane::drain_all(unsigned looks) {
  const bool saving = state_ != nullptr && (state_->busy() || !amendments_.empty());
  const auto changing = static_cast<std::size_t>(
      std::ranges::count_if(devices_, [](const auto& one) { return is_changing(*one); }));
  if (looks > 0 && (saving || changing > 0)) {
    look_again_ = control_.call_after(kLookAgain, [this, looks] { drain_all(looks - 1); });
    return;
  }
  const std::size_t resting = devices_.size() - changing;
  const Countdown one_done(resting + 1, [this, resting] {
    log::info("{} devices are at rest", resting);
    finish_handing_over();
  });
  for (const auto& device : devices_) {
    if (!is_changing(*device)) device->drain(one_done);
  }
  one_done();
}

void ControlPlane::finish_handing_over() {
  hand_over_patience_.reset();
  look_again_.reset();
  if (on_handed_over_) std::exchange(on_handed_over_, nullptr)();
}

}  // namespace rnbd::client
