// SPDX-License-Identifier: Apache-2.0
// Metrics of daemons that do not exist, for monitoring_test: every state, and names that mean no
// good.
//
//   metrics_sample table client|server                    the rows of docs/monitoring/README.md
//   metrics_sample serve client|server ADDRESS MS [MUTE]  as the daemon does, until it is killed;
//                                                         MS: patience; MUTE: pages never come
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>

#include "client/metrics.h"
#include "common/log.h"
#include "common/metrics/metrics_server.h"
#include "server/metrics.h"

namespace rnbd {
namespace {

using control::DeviceStats;

constexpr const char* kEvil = "a\"b\\c\nd\x1b\xff} 1";

std::string_view word_for(metrics::Kind kind) {
  switch (kind) {
    case metrics::Kind::Counter:
      return "counter";
    case metrics::Kind::Gauge:
      return "gauge";
    case metrics::Kind::Histogram:
      return "histogram";
  }
  return "untyped";
}

DeviceStats some_stats(const std::string& device, const std::string& session,
                       const std::vector<std::string>& stages) {
  DeviceStats stats{.device = device,
                    .session = session,
                    .mapping_path = "vol1",
                    .reads = (std::uint64_t{1} << 53) + 2,
                    .read_bytes = 4096,
                    .writes = 3,
                    .errors = 1,
                    .in_flight = 2};
  for (int i = -1; i < 25; ++i) {
    const std::chrono::microseconds took{i < 0 ? 0 : std::int64_t{1} << i};
    stats.latencies.read.add(took);
    stats.latencies.write.add(took * 3);
  }
  for (const std::string& stage : stages) stats.stages.push_back({stage, stats.latencies});
  return stats;
}

std::string client_page() {
  client::Observation seen;
  for (const char* session : {"blya", kEvil, "blya"}) {
    seen.stats.push_back(some_stats("/dev/nbd0", session, {"queue", "wire"}));
  }
  for (const char* state : {"open", "queueing", "failing", "closed"}) {
    seen.devices.push_back({.device = fmt::format("/dev/nbd-{}", state),
                            .session = "blya",
                            .mapping_path = "vol1",
                            .state = state,
                            .size_bytes = 1 << 30,
                            .server_size_bytes = 1 << 30});
  }
  for (const char* state :
       {"connecting", "connected", "draining", "closing", "fencing", "waiting", "disconnected"}) {
    seen.paths.push_back({.session = kEvil,
                          .path = fmt::format("ip:10.0.0.1@{}", state),
                          .state = state,
                          .latency_us = 12});
  }
  seen.sessions.push_back({.name = "blya", .pinned_bytes = 64 << 20, .reconnects = 1});
  return client::metrics_page(seen);
}

std::string server_page() {
  server::Observation seen;
  for (const char* session : {"blya", kEvil}) {
    seen.stats.push_back(some_stats("/dev/ram0", session, {"server", "disk"}));
    seen.sessions.push_back({.name = session, .devices = 1, .pinned_bytes = 64 << 20});
  }
  for (const char* state : {"open", "closed"}) {
    seen.devices.push_back({.device = fmt::format("/dev/ram-{}", state),
                            .session = "blya",
                            .mapping_path = "vol1",
                            .state = state,
                            .size_bytes = 1 << 30});
  }
  for (const char* state : {"connecting", "connected", "closing", "draining"}) {
    seen.paths.push_back({.session = "blya",
                          .peer_address = fmt::format("ip:10.0.0.2 {}", state),
                          .local_address = "ip:10.0.0.1",
                          .state = state,
                          .in_flight = 3});
  }
  return server::metrics_page(seen);
}

int print_table(bool client) {
  const auto all = client ? client::metric_definitions() : server::metric_definitions();
  for (const metrics::Definition& one : all) {
    fmt::print("| `{}` | {} | {} | {} |\n", one.name, word_for(one.kind), one.labels, one.help);
  }
  return 0;
}

int serve(bool client, const std::string& address, int patience_ms, bool mute) {
  boost::asio::io_context io;
  metrics::MetricsServer server(
      io,
      [client, mute](const std::function<void(std::string)>& done) {
        if (!mute) done(client ? client_page() : server_page());
      },
      std::chrono::milliseconds(patience_ms));
  if (const Status listening = server.listen(address); !listening) {
    fmt::print(stderr, "{}\n", describe(listening.error()));
    return 1;
  }
  fmt::print("ready\n");
  std::fflush(stdout);
  io.run();
  return 0;
}

}  // namespace
}  // namespace rnbd

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 2) return 2;
  rnbd::log::start("warning");
  const bool client = words[1] == "client";
  if (words[0] == "table") return rnbd::print_table(client);
  if (words.size() < 4) return 2;
  return rnbd::serve(client, words[2], std::stoi(words[3]), words.size() > 4);
}
