// SPDX-License-Identifier: Apache-2.0
#include "client/daemon.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <pthread.h>

#include <sys/mman.h>
#include <sys/prctl.h>

#include "client/config_file.h"
#include "client/control_plane.h"
#include "client/descriptor_store.h"
#include "client/kernel_nbd.h"
#include "client/supervisor.h"
#include "common/control/daemon_loop.h"
#include "common/control/exit_codes.h"
#include "common/control/reload.h"
#include "common/control/server.h"
#include "common/control/state_file.h"
#include "common/log.h"
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

/// What may change while devices are mapped, none of which notices.
Status adopt(ControlPlane& plane, DaemonOptions& running, const DaemonOptions& fresh) {
  plane.set_defaults(fresh.map_defaults);
  log::set_level(fresh.log_level);
  running.map_defaults = fresh.map_defaults;
  running.log_level = fresh.log_level;
  return {};
}

auto read_again(ControlPlane& plane, DaemonOptions& running) {
  return control::reload(
      running,
      [&plane](DaemonOptions& was, const DaemonOptions& now) { return adopt(plane, was, now); },
      changed_keys);
}

void offer(control::DaemonLoop& loop, control::ControlServer& commands, ControlPlane& plane,
           DaemonOptions& running) {
  plane.serve(commands);
  control::serve_reload(loop, commands, [&] { return read_again(plane, running); });
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

Status listen(control::ControlServer& commands, metrics::MetricsServer& metrics,
              const DaemonOptions& options) {
  // Devices do not wait for whoever has the metrics' port.
  if (Status listening = metrics.listen(options.metrics_listen); !listening) {
    log::error("no metrics: {}", describe(listening.error()));
  }
  return commands.listen(options.control_path);
}

Status serve(const DaemonOptions& options, Notifier& notifier) {
  auto store = DescriptorStore::from_environment(notifier);
  if (!store) return fail(store.error());
  control::DaemonLoop loop;
  auto fabric = transport::verbs::VerbsFabric::create();
  if (!fabric) return fail(fabric.error());
  auto pool = WorkerPool::start("rnbd-client");
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
  if (Status resumed = plane.resume(); !resumed) return resumed;
  plane.remember_in(state);
  DaemonOptions running = options;
  offer(loop, commands, plane, running);

  metrics::MetricsServer metrics(loop.io(), pages_of(plane));
  if (Status listening = listen(commands, metrics, options); !listening) return listening;

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
