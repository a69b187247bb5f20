// SPDX-License-Identifier: Apache-2.0
#include "client/daemon.h"

#include <cerrno>

#include <sys/mman.h>
#include <sys/prctl.h>

#include "client/control_plane.h"
#include "common/control/daemon_loop.h"
#include "common/control/server.h"
#include "common/log.h"
#include "transport/verbs/fabric.h"
#include "transport/worker_pool.h"

namespace rnbd::client {
namespace {

/// We are in the kernel's write-back path: memory that we wait for must not wait for us. Before the
/// workers start, which inherit it.
void guard_against_reclaim() {
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    log::warn("memory is not locked, and may be swapped to a device that waits for us: {}",
              errno_name(errno));
  }
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    log::warn("not known to the kernel as an I/O flusher (CAP_SYS_RESOURCE): {}",
              errno_name(errno));
  }
}

Status serve(const DaemonOptions& options) {
  control::DaemonLoop loop;
  auto fabric = transport::verbs::VerbsFabric::create();
  if (!fabric) return fail(fabric.error());
  auto pool = WorkerPool::start("rnbd-client");
  if (!pool) return fail(pool.error());

  ControlPlane plane(**fabric, loop.context(), pool->contexts());
  control::ControlServer commands(loop.io());
  plane.serve(commands);
  if (Status listening = commands.listen(options.control_path); !listening) return listening;

  log::info("ready on {} with {} workers", options.control_path, pool->size());
  loop.watch((*fabric)->event_fd(), [&] { (*fabric)->process_events(); });
  loop.run([&](Executor::Task ended) { plane.stop(std::move(ended)); });
  log::info("stopped");
  return {};
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  log::start(options.log_level);
  guard_against_reclaim();
  return control::conclude(serve(options));
}

}  // namespace rnbd::client
