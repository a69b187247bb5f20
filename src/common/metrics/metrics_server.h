// SPDX-License-Identifier: Apache-2.0
// HTTP for one page, GET /metrics, on the loopback or a Unix socket. Runs on the control thread's
// io_context and belongs to that thread; nothing blocks. Whoever asks is bounded in everything:
// 16 at a time, others wait in the kernel's queue; 8 KiB of request; 10 s from first to last byte
// (unless it is told otherwise); one request a connection.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "common/result.h"

namespace rnbd::metrics {

class MetricsServer {
 public:
  /// Makes the page and hands it to `done`, on the control thread, now or later; perhaps never.
  using Collect = std::function<void(std::function<void(std::string page)> done)>;

  /// `context` outlives the server. `patience`: after which a connection is closed.
  MetricsServer(boost::asio::io_context& context, Collect collect,
                std::chrono::milliseconds patience = std::chrono::seconds(10));
  /// Disconnects everybody; pages that come later go nowhere.
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  /// Starts to serve at `address`, as parse_metrics_address() has it; an empty one is nowhere.
  /// Errors: EINVAL, EADDRINUSE and others of bind(2), those of control::listen_at().
  Status listen(const std::string& address);

 private:
  class Core;
  std::shared_ptr<Core> core_;  ///< shared with operations that Asio has yet to cancel
};

}  // namespace rnbd::metrics
