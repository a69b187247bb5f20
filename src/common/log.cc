// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <cstdlib>
#include <memory>
#include <unistd.h>
#include <utility>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "common/journald.h"
#include "common/printable.h"

namespace rnbd::log {
namespace {

/// Of this thread.
const About*& innermost() {
  thread_local const About* about = nullptr;
  return about;
}

/// The message itself. Names in it may be a peer's: they must not end the line or begin another.
class Message final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
              spdlog::memory_buf_t& out) override {
    const std::string text = printable({message.payload.data(), message.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<Message>();
  }
};

spdlog::sink_ptr make_sink() {
  if (is_journal(std::getenv("JOURNAL_STREAM"), STDERR_FILENO)) {
    return std::make_shared<JournaldSink>(kJournaldSocket);
  }
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<Message>('*').set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %*");
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  sink->set_formatter(std::move(formatter));
  return sink;
}

}  // namespace

void start(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("rnbd", make_sink());
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

About::About(std::string session, std::string device)
    : session_(std::move(session)),
      device_(std::move(device)),
      outer_(std::exchange(innermost(), this)) {}

About::~About() { innermost() = outer_; }

std::string_view About::session() {
  return innermost() == nullptr ? std::string_view() : innermost()->session_;
}

std::string_view About::device() {
  return innermost() == nullptr ? std::string_view() : innermost()->device_;
}

void set_level(const std::string& level) {
  spdlog::default_logger()->set_level(spdlog::level::from_str(level));
}

}  // namespace rnbd::log
