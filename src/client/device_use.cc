// SPDX-License-Identifier: Apache-2.0
// NbdSysfs, second part: who uses a device.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "client/nbd_sysfs.h"
#include "common/unique_fd.h"

namespace rnbd::client {
namespace {

namespace fs = std::filesystem;

/// The entries of a directory, none if it cannot be read: what we look at comes and goes.
std::vector<fs::path> entries(const fs::path& directory) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    paths.push_back(entry->path());
  }
  std::ranges::sort(paths);
  return paths;
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// mountinfo and swaps write blanks and backslashes of a name as three octal digits.
std::string unescape(std::string_view text) {
  const auto is_octal = [](char digit) { return digit >= '0' && digit <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::ranges::all_of(text.substr(i + 1, 3), is_octal)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

void append(std::string& text, std::string_view what) {
  if (!text.empty()) text += "; ";
  text += what;
}

}  // namespace

bool DeviceUse::in_use() const {
  return claimed || !mounts.empty() || !swaps.empty() || !holders.empty() || !openers.empty();
}

std::string DeviceUse::describe() const {
  std::string text;
  if (!mounts.empty()) append(text, fmt::format("mounted on {}", fmt::join(mounts, ", ")));
  if (!swaps.empty()) append(text, fmt::format("swap space {}", fmt::join(swaps, ", ")));
  if (!holders.empty()) append(text, fmt::format("part of {}", fmt::join(holders, ", ")));
  for (const Opener& opener : openers) {
    append(text, fmt::format("open in {} (pid {})", opener.name, opener.pid));
  }
  if (text.empty() && claimed) text = "held exclusively, perhaps mounted in another namespace";
  return text;
}

std::vector<NbdSysfs::Part> NbdSysfs::parts() const {
  std::vector<Part> found;
  const auto add = [&found](const fs::path& directory) {
    const std::string number = first_line(directory / "dev");
    unsigned major = 0;
    unsigned minor = 0;
    char colon = 0;
    if (std::istringstream(number) >> major >> colon >> minor && colon == ':') {
      found.push_back({directory.filename(), number, makedev(major, minor), directory});
    }
  };
  add(directory());
  for (const fs::path& entry : entries(directory())) {
    std::error_code ignored;
    if (fs::exists(entry / "partition", ignored)) add(entry);
  }
  return found;
}

Result<DeviceUse> NbdSysfs::find_users() const {
  DeviceUse use;
  // Fails for a mount, swap, md or dm on the disk or on any of its partitions.
  if (const UniqueFd fd(::open(node().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC)); !fd) {
    if (errno != EBUSY) return fail(errno, fmt::format("cannot open {}", node()));
    use.claimed = true;
  }
  const std::vector<Part> parts = this->parts();
  find_mounts(parts, use);
  find_swaps(parts, use);
  find_holders(parts, use);
  find_openers(parts, use);
  return use;
}

void NbdSysfs::find_mounts(const std::vector<Part>& parts, DeviceUse& use) const {
  // The host's own mounts too: what a unit with a namespace of its own sees of them is no promise.
  for (const char* process : {"self", "1"}) {
    std::ifstream mounts(places_.proc / process / "mountinfo");
    for (std::string line; std::getline(mounts, line);) {
      std::string id, parent, number, root, where;
      if (!(std::istringstream(line) >> id >> parent >> number >> root >> where)) continue;
      const auto is_it = [&](const Part& part) { return number == part.number; };
      if (std::ranges::none_of(parts, is_it)) continue;
      where = unescape(where);
      if (std::ranges::find(use.mounts, where) == use.mounts.end()) use.mounts.push_back(where);
    }
  }
}

void NbdSysfs::find_swaps(const std::vector<Part>& parts, DeviceUse& use) const {
  std::ifstream swaps(places_.proc / "swaps");
  for (std::string line; std::getline(swaps, line);) {
    std::string where;
    std::istringstream(line) >> where;
    const auto is_it = [&](const Part& part) { return where == (places_.dev / part.name); };
    if (std::ranges::any_of(parts, is_it)) use.swaps.push_back(unescape(where));
  }
}

void NbdSysfs::find_holders(const std::vector<Part>& parts, DeviceUse& use) const {
  for (const Part& part : parts) {
    for (const fs::path& holder : entries(part.directory / "holders")) {
      use.holders.push_back(holder.filename());
    }
  }
  // A loop device keeps its file open inside the kernel and claims nothing.
  for (const fs::path& disk : entries(places_.sys_block)) {
    if (!disk.filename().string().starts_with("loop")) continue;
    const std::string file = first_line(disk / "loop/backing_file");
    const auto is_it = [&](const Part& part) { return file == (places_.dev / part.name); };
    if (std::ranges::any_of(parts, is_it)) use.holders.push_back(disk.filename());
  }
}

void NbdSysfs::find_openers(const std::vector<Part>& parts, DeviceUse& use) const {
  const std::string ourselves = std::to_string(::getpid());
  const auto is_ours = [&](const fs::path& descriptor) {
    // The name first: asking a stranger's descriptor what it is may hang on a dead file server.
    std::error_code error;
    const fs::path target = fs::read_symlink(descriptor, error);
    const bool plausible = !error && (target.string().starts_with(places_.dev.string()) ||
                                      target.filename().string().starts_with(name_));
    struct stat status{};
    return plausible && ::stat(descriptor.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
           std::ranges::any_of(parts,
                               [&](const Part& part) { return part.device == status.st_rdev; });
  };
  for (const fs::path& process : entries(places_.proc)) {
    const std::string pid = process.filename();
    if (pid == ourselves ||
        !std::ranges::all_of(pid, [](char c) { return c >= '0' && c <= '9'; })) {
      continue;
    }
    if (std::ranges::any_of(entries(process / "fd"), is_ours)) {
      use.openers.push_back({static_cast<pid_t>(std::stol(pid)), first_line(process / "comm")});
    }
  }
}

}  // namespace rnbd::client
