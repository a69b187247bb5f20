// SPDX-License-Identifier: Apache-2.0
#include "client/nbd_sysfs.h"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <fstream>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/unique_fd.h"

namespace rnbd::client {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kPollInterval{5};

Result<std::string> read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!file) return fail(ENOENT, fmt::format("cannot read {}", path.string()));
  std::getline(file, line);
  return line;
}

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

std::optional<dev_t> to_device(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return {};
  const auto major = to_number(text.substr(0, colon));
  const auto minor = to_number(text.substr(colon + 1));
  if (!major || !minor) return {};
  return makedev(static_cast<unsigned>(*major), static_cast<unsigned>(*minor));
}

template <typename Condition>
bool wait_for(Condition condition, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

}  // namespace

NbdSysfs::NbdSysfs(std::uint32_t index, Places places)
    : name_(fmt::format("nbd{}", index)), places_(std::move(places)) {}

bool NbdSysfs::node_is_there() const {
  const auto number = read_line(directory() / "dev");
  const auto device = number ? to_device(*number) : std::nullopt;
  struct stat status{};
  return device && ::stat(node().c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
         status.st_rdev == *device;
}

Status NbdSysfs::wait_until_ready(std::chrono::milliseconds patience) const {
  const auto ready = [this] { return size_bytes().value_or(0) > 0 && node_is_there(); };
  if (wait_for(ready, patience)) return {};
  return fail(ETIMEDOUT, size_bytes().value_or(0) == 0
                             ? fmt::format("{} did not get its size", node())
                             : fmt::format("{} did not appear", node()));
}

Status NbdSysfs::wait_for_udev(fs::file_time_type since, std::chrono::milliseconds patience) const {
  std::error_code error;
  if (!fs::exists(places_.udev / "control", error)) return {};
  const fs::path entry =
      places_.udev / "data" / ('b' + read_line(directory() / "dev").value_or(""));
  const auto dealt_with = [&] {
    // What udev knows of a device is written anew with each event.
    const auto written = fs::last_write_time(entry, error);
    return !error && written >= since && !fs::exists(places_.udev / "queue", error);
  };
  if (wait_for(dealt_with, patience)) return {};
  return fail(ETIMEDOUT, fmt::format("udev has not dealt with {} yet", node()));
}

bool NbdSysfs::connected() const {
  std::error_code ignored;
  return fs::exists(directory() / "pid", ignored);
}

Status NbdSysfs::wait_until_free(std::chrono::milliseconds patience) const {
  if (wait_for([this] { return !connected(); }, patience)) return {};
  return fail(ETIMEDOUT, fmt::format("the nbd driver does not let go of {}", node()));
}

Result<std::string> NbdSysfs::backend() const {
  std::error_code ignored;
  if (!fs::exists(directory(), ignored)) return fail(ENOENT, fmt::format("no device {}", name_));
  return read_line(directory() / "backend").value_or("");
}

Result<std::uint64_t> NbdSysfs::size_bytes() const {
  const auto line = read_line(directory() / "size");
  if (!line) return fail(line.error());
  const auto sectors = to_number(*line);
  if (!sectors) return fail(EINVAL, fmt::format("{} has a size of '{}'", name_, *line));
  return *sectors * 512;
}

Status NbdSysfs::write(std::string_view attribute, const std::string& value) const {
  const std::string path = directory() / attribute;
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), value.data(), value.size()) < 0) {
    return fail(errno, fmt::format("cannot write '{}' to {}", value, path));
  }
  return {};
}

Status NbdSysfs::apply(const NbdQueueSettings& settings) const {
  Status status;
  if (!settings.scheduler.empty()) status = write("queue/scheduler", settings.scheduler);
  if (status && settings.max_sectors_kb) {
    status = write("queue/max_sectors_kb", std::to_string(*settings.max_sectors_kb));
  }
  if (status && settings.io_timeout_ms) {
    status = write("queue/io_timeout", std::to_string(*settings.io_timeout_ms));
  }
  return status;
}

Status NbdSysfs::scan_partitions() const {
  const UniqueFd fd(::open(node().c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(errno, fmt::format("cannot open {}", node()));
  return {};
}

}  // namespace rnbd::client
