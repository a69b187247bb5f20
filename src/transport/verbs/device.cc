// SPDX-License-Identifier: Apache-2.0
// An adapter's memory (device.h). Its asynchronous events are in device_events.cc.
#include "transport/verbs/device.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <unistd.h>

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace rnbd::transport::verbs {

namespace {

constexpr std::uint32_t kSoftRoce = 0xffffff;  ///< as its driver has it

Result<ibv_device_attr> attributes_of(ibv_context& context) {
  ibv_device_attr attributes{};
  if (const int code = ibv_query_device(&context, &attributes); code != 0) {
    return fail(
        code, fmt::format("cannot ask {} what it can do (ibv_query_device)", device_name(context)));
  }
  return attributes;
}

Capabilities capabilities_from(ibv_context& context, const ibv_device_attr& attributes) {
  // One completion queue takes the completions of both; a place in each is the queue's own.
  const int queued = std::min(attributes.max_qp_wr, (attributes.max_cqe - 1) / 2) - 1;
  const auto work = static_cast<std::uint32_t>(queued);
  return {
      .device = std::string(device_name(context)),
      .max_send_work = work,
      .max_receive_work = work,
      .windows = (attributes.device_cap_flags & IBV_DEVICE_MEM_WINDOW) != 0,
  };
}

unsigned access_of(RegionUse use) {
  switch (use) {
    case RegionUse::Local:
      return IBV_ACCESS_LOCAL_WRITE;
    case RegionUse::RemoteWrite:
      return IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
    case RegionUse::WindowTarget:
      return IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND;
  }
  return 0;
}

/// Who may lock memory without bound is not stopped by RLIMIT_MEMLOCK.
bool may_lock_any_memory() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

Error explain(Error error) {
  rlimit limit{};
  if (error.code != ENOMEM || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY || may_lock_any_memory()) {
    return error;
  }
  error.message += fmt::format(
      "; RLIMIT_MEMLOCK, what this process may lock in all, is {} bytes (`ulimit -l`, or systemd's "
      "LimitMEMLOCK=infinity)",
      limit.rlim_cur);
  return error;
}

}  // namespace

VerbsRegion::VerbsRegion(MemoryRegion region, std::span<std::byte> memory, Reaper& reaper)
    : region_(std::move(region)), reaper_(reaper) {
  memory_ = memory;
  local_key_ = region_->lkey;
  remote_key_ = region_->rkey;
}

VerbsRegion::~VerbsRegion() { reaper_.take_behind(std::move(region_)); }

VerbsDevice::VerbsDevice(ibv_context& context, ContextPin pin, ProtectionDomain domain,
                         EventSet& events, Connections& connections, Reaper& reaper)
    : context_(context),
      pin_(std::move(pin)),
      domain_(std::move(domain)),
      events_(events),
      connections_(connections),
      reaper_(reaper) {}

Result<std::unique_ptr<VerbsDevice>> VerbsDevice::open(ibv_context& context, EventSet& events,
                                                       Connections& connections, Reaper& reaper) {
  auto pin = ContextPin::create();
  if (!pin) return fail(std::move(pin.error()));
  auto domain = ProtectionDomain::create(context);
  if (!domain) return fail(std::move(domain.error()));

  std::unique_ptr<VerbsDevice> device(
      new VerbsDevice(context, std::move(*pin), std::move(*domain), events, connections, reaper));
  if (auto done = device->query(); !done) return fail(std::move(done.error()));
  if (auto done = set_nonblocking(context.async_fd); !done) return fail(std::move(done.error()));
  if (auto done = events.watch(context.async_fd, *device); !done) {
    return fail(std::move(done.error()));
  }
  return device;
}

Status VerbsDevice::query() {
  auto attributes = attributes_of(context_);
  if (!attributes) return fail(std::move(attributes.error()));
  capabilities_ = capabilities_from(context_, *attributes);
  soft_roce_ = attributes->vendor_id == kSoftRoce;
  return {};
}

Result<Capabilities> VerbsDevice::capabilities_of(ibv_context& context) {
  auto attributes = attributes_of(context);
  if (!attributes) return fail(std::move(attributes.error()));
  return capabilities_from(context, *attributes);
}

Result<std::unique_ptr<Region>> VerbsDevice::register_region(std::span<std::byte> memory,
                                                             RegionUse use) {
  auto region = MemoryRegion::create(domain_, memory.data(), memory.size(), access_of(use));
  if (!region) return fail(explain(std::move(region.error())));
  return std::make_unique<VerbsRegion>(std::move(*region), memory, reaper_);
}

Result<std::unique_ptr<Window>> VerbsDevice::make_window() {
  if (!capabilities_.windows) {
    return fail(EOPNOTSUPP, fmt::format("{} has no type 1 memory windows", capabilities_.device));
  }
  auto window = MemoryWindow::create(domain_);
  if (!window) return fail(std::move(window.error()));
  return std::make_unique<VerbsWindow>(std::move(*window), reaper_);
}

int VerbsDevice::next_completion_vector() {
  const int vector = next_vector_;
  next_vector_ = (next_vector_ + 1) % std::max(context_.num_comp_vectors, 1);
  return vector;
}

}  // namespace rnbd::transport::verbs
