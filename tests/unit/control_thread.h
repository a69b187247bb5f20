// SPDX-License-Identifier: Apache-2.0
// A thread like the daemons' control thread: runs an io_context until it dies.
#pragma once

#include <future>
#include <memory>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

namespace rnbd::test {

class ControlThread {
 public:
  ControlThread() : work_(context_.get_executor()), thread_([this] { context_.run(); }) {}
  ~ControlThread() {
    context_.stop();
    thread_.join();
  }
  ControlThread(const ControlThread&) = delete;
  ControlThread& operator=(const ControlThread&) = delete;

  /// Runs `task` on the thread and waits for what it returns.
  template <typename Task>
  auto run(Task task) {
    // Shared: the thread is still in it when its result is there.
    auto packaged = std::make_shared<std::packaged_task<decltype(task())()>>(std::move(task));
    auto done = packaged->get_future();
    boost::asio::post(context_, [packaged] { (*packaged)(); });
    return done.get();
  }

  boost::asio::io_context& context() { return context_; }

 private:
  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace rnbd::test
