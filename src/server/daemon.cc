// SPDX-License-Identifier: Apache-2.0
#include "server/daemon.h"

#include <future>
#include <unistd.h>

#include "common/control/daemon_loop.h"
#include "common/control/reload.h"
#include "common/control/server.h"
#include "common/control/state_file.h"
#include "common/control/verbs.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/metrics/metrics_server.h"
#include "common/slow_io.h"
#include "server/client_limits.h"
#include "server/config_file.h"
#include "server/control_plane.h"
#include "server/daemon_options.h"
#include "server/uring_store.h"
#include "transport/rtrs/device_check.h"
#include "transport/verbs/fabric.h"
#include "transport/worker_pool.h"

namespace rnbd::server {
namespace {

/// The stores, each made and destroyed on its worker.
class Stores {
 public:
  explicit Stores(WorkerPool& pool) : pool_(pool), stores_(pool.size()) {}
  ~Stores() {
    static_cast<void>(on_each([](Worker&, std::unique_ptr<UringStore>& store) {
      store.reset();
      return Status{};
    }));
  }

  Status create() {
    return on_each([](Worker& worker, std::unique_ptr<UringStore>& store) -> Status {
      auto made = UringStore::create(worker);
      if (!made) return fail(made.error());
      store = std::move(*made);
      return {};
    });
  }

  [[nodiscard]] std::vector<StoreWorker> workers() {
    std::vector<StoreWorker> result;
    result.reserve(pool_.size());
    for (std::size_t i = 0; i < pool_.size(); ++i) result.push_back({&pool_[i], stores_[i].get()});
    return result;
  }

 private:
  template <typename Step>
  Status on_each(Step step) {
    Status first;
    for (std::size_t i = 0; i < pool_.size(); ++i) {
      std::promise<Status> done;
      pool_[i].post([&, i] { done.set_value(step(pool_[i], stores_[i])); });
      if (Status status = done.get_future().get(); !status && first) first = status;
    }
    return first;
  }

  WorkerPool& pool_;
  std::vector<std::unique_ptr<UringStore>> stores_;
};

std::uint64_t host_memory() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

rtrs::HeartbeatTiming heartbeat_of(const DaemonOptions& options) {
  return {.interval = std::chrono::milliseconds(options.hb_interval_ms),
          .missed_max = options.hb_missed_max};
}

rtrs::AcceptorSettings acceptor_settings(const DaemonOptions& options) {
  return {.parameters = {.queue_depth = options.sess_queue_depth,
                         .max_io_size = options.max_io_size,
                         .max_header_size = limits::kHeaderArea,
                         .new_key = options.always_invalidate},
          .limits = client_limits(options, host_memory()),
          .heartbeat = heartbeat_of(options)};
}

/// Over all adapters, if they can do what is promised.
Result<std::unique_ptr<transport::verbs::VerbsFabric>> open_fabric(
    const rtrs::AcceptorSettings& settings) {
  const auto devices = transport::verbs::VerbsFabric::devices();
  if (!devices) return fail(devices.error());
  if (Status able = rtrs::check_devices(settings.parameters, *devices); !able) {
    return fail(able.error());
  }
  return transport::verbs::VerbsFabric::create();
}

void announce(const DaemonOptions& options, const rtrs::AcceptorSettings& settings,
              std::size_t workers) {
  const std::uint64_t bytes =
      std::uint64_t{options.sess_queue_depth} * settings.parameters.chunk_size();
  log::info(
      "serving {} on port {} with {} workers; a session pins {} MiB, those of a client {} at most, "
      "all together {}",
      options.dev_search_path, options.port_nr, workers, bytes >> 20,
      settings.limits.client.memory >> 20, settings.limits.all.memory >> 20);
}

/// What may change while clients are connected, of which none is disconnected.
Result<std::vector<control::ReloadResult::Refused>> adopt(ControlPlane& plane,
                                                          DaemonOptions& running,
                                                          const DaemonOptions& fresh) {
  auto search_path = SearchPath::create(fresh.dev_search_path);
  if (!search_path) return fail(search_path.error());
  // What a session takes is what it takes now, whatever the file says.
  if (Status hold = check_limits_hold(fresh.limits, session_memory(running)); !hold) {
    return fail(hold.error());
  }
  Exports::Meaning meaning{std::move(*search_path), fresh.exports};
  Exports::Refused refused = plane.exports().adopt(meaning);
  plane.set_heartbeat(heartbeat_of(fresh));
  log::set_level(fresh.log_level);
  if (refused.search_path.empty()) running.dev_search_path = fresh.dev_search_path;
  running.exports = std::move(meaning.configured);
  running.hb_interval_ms = fresh.hb_interval_ms;
  running.hb_missed_max = fresh.hb_missed_max;
  running.limits = fresh.limits;
  plane.set_limits(client_limits(running, host_memory()));
  running.log_level = fresh.log_level;
  std::vector<control::ReloadResult::Refused> told;
  if (!refused.search_path.empty()) told.push_back({"dev_search_path", refused.search_path});
  for (std::string& why : refused.exports) told.push_back({"export", std::move(why)});
  return told;
}

using Reloader = control::Reloader<DaemonOptions>;

Reloader::Adopt adopt_into(ControlPlane& plane) {
  return [&plane](DaemonOptions& running, const DaemonOptions& fresh) {
    return adopt(plane, running, fresh);
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

Status listen(control::ControlServer& commands, metrics::MetricsServer& metrics,
              const DaemonOptions& options) {
  // Devices do not wait for whoever has the metrics' port.
  if (Status listening = metrics.listen(options.metrics_listen); !listening) {
    log::error("no metrics: {}", describe(listening.error()));
  }
  return commands.listen(options.control_path);
}

Status serve(const DaemonOptions& options, Notifier& notifier) {
  control::DaemonLoop loop;
  auto search_path = SearchPath::create(options.dev_search_path);
  if (!search_path) return fail(search_path.error());
  const rtrs::AcceptorSettings settings = acceptor_settings(options);
  auto fabric = open_fabric(settings);
  if (!fabric) return fail(fabric.error());
  auto pool = WorkerPool::start("rnbd-server", std::chrono::microseconds(options.spin_us));
  if (!pool) return fail(pool.error());
  Stores stores(*pool);
  if (Status created = stores.create(); !created) return created;

  control::StateFile state(loop.context(), options.state_dir, "server-state.json");
  ControlPlane plane(loop.context(), stores.workers(), settings, std::move(*search_path),
                     slow_io_limit(options.slow_io_ms));
  plane.exports().named().configure(options.exports);
  plane.remember_in(state);
  if (Status listening = plane.listen(**fabric, options.port_nr); !listening) return listening;

  control::ControlServer commands(loop.io());
  DaemonOptions running = options;
  Reloader reloader(loop.context(), running, adopt_into(plane), changed_keys);
  offer(loop, commands, plane, reloader);

  metrics::MetricsServer metrics(loop.io(), pages_of(plane));
  if (Status listening = listen(commands, metrics, options); !listening) return listening;

  announce(options, settings, pool->size());
  turn(loop, notifier, **fabric, plane);
  return {};
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  log::start(options.log_level);
  auto notifier = Notifier::from_environment();
  return control::conclude(notifier ? serve(options, *notifier) : fail(notifier.error()));
}

}  // namespace rnbd::server
