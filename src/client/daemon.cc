// SPDX-License-Identifier: Apache-2.0
#include "client/daemon.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <pthread.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/prctl.h>

#include "client/config_file.h"
#include "client/control_plane.h"
#include "client/descriptor_store.h"
#include "client/kernel_nbd.h"
#include "client/supervisor.h"
#include "common/control/command_listener.h"
#include "common/control/daemon_loop.h"
#include "common/control/exit_codes.h"
#include "common/control/reload.h"
#include "common/control/server.h"
#include "common/control/state_file.h"
#include "common/log.h"
#include "common/memory_block.h"
#include "common/metrics/metrics_server.h"
#include "common/slow_io.h"
#include "transport/verbs/fabric.h"
#include "transport/worker_pool.h"

namespace rnbd::client {
namespace {

#ifdef RNBD_SANITIZED
constexpr std::size_t kThreadStack = std::size_t{4} << 20;
#else
constexpr std::size_t kThreadStack = std::size_t{512} << 10;
#endif

/// We are in the kernel's write-back path: memory that we wait for must not wait for us. Before the
/// workers start, which inherit it.
void guard_against_reclaim() {
  // Locked memory is populated at once, and threads' stacks of 8 MiB are a second of the time for
  // which the devices stand still between two processes.
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kThreadStack);
  ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    log::warn("memory is not locked, and may be swapped to a device that waits for us: {}",
              errno_name(errno));
  }
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    log::warn("not known to the kernel as an I/O flusher (CAP_SYS_RESOURCE): {}",
              errno_name(errno));
  }
}

void leave_to_successor(ControlPlane& plane) {
  plane.hand_over([] {
    log::info("left to the next process");
    // Nothing is taken apart: it all goes on there.
    std::_Exit(control::kHandedOver);
  });
}

/// Both outlive the loop.
void watch_hand_over(control::DaemonLoop& loop, DescriptorStore& store,
                     const std::function<void()>& leave) {
  loop.on_signal(SIGUSR2, [&store, &leave] {
    if (store.has_keeper()) return leave();
    log::warn("SIGUSR2 is ignored: nobody keeps the devices for a next process");
  });
}

Status keep_text(DescriptorStore& store, const std::string& text) {
  auto file = MemoryBlock::make_file("rnbd-config", text.size());
  if (!file) return fail(file.error());
  if (::pwrite(file->get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return fail(errno, "cannot write a memory file");
  }
  return store.keep_beside(kKeptConfig, std::move(*file));
}

/// For a successor that finds a wrong file.
void keep_config(DescriptorStore& store, const DaemonOptions& options) {
  if (Status kept = keep_text(store, config_text(options)); !kept) {
    log::warn("the configuration is not kept for a next process: {}", describe(kept.error()));
  }
}

Status go_on(ControlPlane& plane, DescriptorStore& store, const DaemonOptions& options) {
  // In place of the predecessor's, which is no device's.
  keep_config(store, options);
  return plane.resume();
}

using Reloader = control::Reloader<DaemonOptions>;

/// What may change while devices are mapped, none of which notices.
Reloader::Adopt adopt_into(ControlPlane& plane, DescriptorStore& store) {
  return [&plane, &store](DaemonOptions& running, const DaemonOptions& fresh) {
    plane.set_defaults(fresh.map_defaults);
    log::set_level(fresh.log_level);
    running.map_defaults = fresh.map_defaults;
    running.log_level = fresh.log_level;
    keep_config(store, running);
    return std::vector<control::ReloadResult::Refused>{};
  };
}

void offer(control::DaemonLoop& loop, control::ControlServer& commands, ControlPlane& plane,
           Reloader& reloader) {
  plane.serve(commands);
  control::serve_reload(loop, commands, reloader);
}

/// Until the daemon is told to stop, and has.
void turn(control::DaemonLoop& loop, Notifier& notifier, transport::verbs::VerbsFabric& fabric,
          ControlPlane& plane) {
  loop.report_to(notifier);
  loop.watch(fabric.event_fd(), [&] { fabric.process_events(); });
  loop.run([&](Executor::Task ended) { plane.stop(std::move(ended)); });
  log::info("stopped");
}

metrics::MetricsServer::Collect pages_of(ControlPlane& plane) {
  return [&plane](std::function<void(std::string)> done) {
    plane.observe([done = std::move(done)](const Observation& seen) { done(metrics_page(seen)); });
  };
}

/// `insist`: it has devices, which do not wait for whoever has its socket.
Status listen(control::CommandListener& commands, metrics::MetricsServer& metrics,
              const DaemonOptions& options, bool insist) {
  // Devices do not wait for whoever has the metrics' port.
  if (Status listening = metrics.listen(options.metrics_listen); !listening) {
    log::error("no metrics: {}", describe(listening.error()));
  }
  if (!insist) return commands.listen();
  commands.insist();
  return {};
}

Status serve(const DaemonOptions& options, Notifier& notifier) {
  auto store = DescriptorStore::from_environment(notifier);
  if (!store) return fail(store.error());
  control::DaemonLoop loop;
  auto fabric = transport::verbs::VerbsFabric::create();
  if (!fabric) return fail(fabric.error());
  auto pool = WorkerPool::start("rnbd-client", std::chrono::microseconds(options.spin_us));
  if (!pool) return fail(pool.error());

  std::function<void()> leave;
  control::StateFile state(loop.context(), options.state_dir, "client-state.json");
  KernelNbd nbd(loop.context());
  ControlPlane plane({.fabric = **fabric,
                      .control = loop.context(),
                      .nbd = nbd,
                      .keeper = *store,
                      .random = kernel_random,
                      .workers = pool->contexts(),
                      .slow_io = slow_io_limit(options.slow_io_ms)},
                     [&] { leave(); });
  leave = [&plane] { leave_to_successor(plane); };
  plane.set_defaults(options.map_defaults);
  control::ControlServer commands(loop.io());
  if (Status resumed = go_on(plane, *store, options); !resumed) return resumed;
  plane.remember_in(state);
  DaemonOptions running = options;
  Reloader reloader(loop.context(), running, adopt_into(plane, *store), changed_keys);
  offer(loop, commands, plane, reloader);

  metrics::MetricsServer metrics(loop.io(), pages_of(plane));
  control::CommandListener listener(loop.context(), commands, options.control_path);
  if (Status listening = listen(listener, metrics, options, plane.has_devices()); !listening) {
    return listening;
  }

  log::info("ready on {} with {} workers", options.control_path, pool->size());
  watch_hand_over(loop, *store, leave);
  turn(loop, notifier, **fabric, plane);
  return {};
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  log::start(options.log_level);
  if (options.supervise) return supervise(options);
  guard_against_reclaim();
  auto notifier = Notifier::from_environment();
  return control::conclude(notifier ? serve(options, *notifier) : fail(notifier.error()));
}

}  // namespace rnbd::client
