// SPDX-License-Identifier: Apache-2.0
#include "common/control/state_file.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/atomic_file.h"
#include "common/log.h"
#include "common/text_file.h"

namespace rnbd::control {
namespace {

constexpr int kVersion = 1;
constexpr const char* kVersionName = "version";
constexpr mode_t kStateDirectoryMode = 0755;
constexpr mode_t kStateLockMode = 0600;

Result<UniqueFd> lock(const std::string& directory, const std::string& path) {
  if (::mkdir(directory.c_str(), kStateDirectoryMode) != 0 && errno != EEXIST) {
    return fail(errno, fmt::format("cannot create {}", directory));
  }
  const std::string name = path + ".lock";
  UniqueFd file(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kStateLockMode));
  if (!file) return fail(errno, fmt::format("cannot open {}", name));
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return file;
  if (errno != EWOULDBLOCK) return fail(errno, fmt::format("cannot lock {}", name));
  return fail(EBUSY,
              fmt::format("another daemon has {}; give each a --state-dir of its own", path));
}

Result<Json> read_state(const std::string& path, const StateFile::Check& check) {
  const auto text = read_text_file(path);
  if (!text && text.error().code == ENOENT) return Json();
  if (!text) return fail(text.error());
  std::string damage;
  try {
    Json content = Json::parse(*text);
    if (content.at(kVersionName).get<int>() > kVersion) {
      return fail(EPROTO, fmt::format("{} is a later version's", path));
    }
    check(content);
    return content;
  } catch (const std::exception& error) {
    damage = error.what();
  }
  const auto aside = set_aside(path);
  if (!aside) return fail(aside.error());
  log::error("{} is damaged, and now {}: {}", path, *aside, damage);
  return Json();
}

}  // namespace

StateFile::StateFile(Executor& control, const std::string& directory, const std::string& name)
    : directory_(directory), path_(directory + '/' + name), writer_(control, 1) {
  if (directory.empty()) usable_ = fail(EOPNOTSUPP, "there is no state_dir to remember it in");
}

StateFile::Loaded StateFile::lock_and_read(const std::string& directory, const std::string& path,
                                           const Check& check) {
  auto locked = lock(directory, path);
  if (!locked) return {{}, fail(locked.error())};
  return {std::move(*locked), read_state(path, check)};
}

Result<Json> StateFile::take(Loaded loaded) {
  lock_ = std::move(loaded.lock);
  if (!loaded.content) usable_ = fail(loaded.content.error());
  return std::move(loaded.content);
}

Result<Json> StateFile::load(const Check& check) {
  if (!usable_) return fail(usable_.error());
  return take(lock_and_read(directory_, path_, check));
}

void StateFile::load_later(Check check, std::move_only_function<void(const Result<Json>&)> done) {
  if (!usable_) return done(fail(usable_.error()));
  writer_.run(
      [directory = directory_, path = path_, check = std::move(check)] {
        return lock_and_read(directory, path, check);
      },
      [this, done = std::move(done)](Loaded loaded) mutable { done(take(std::move(loaded))); });
}

void StateFile::save(Json content, std::move_only_function<void(Status)> done) {
  if (!usable_) return done(usable_);
  content[kVersionName] = kVersion;
  std::string text = content.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
  if (text.size() > kMaxTextFile) {
    return done(fail(EFBIG, fmt::format("{} would have {} bytes", path_, text.size())));
  }
  ++saving_;
  writer_.run([path = path_, text = std::move(text)] { return replace_file(path, text); },
              [this, done = std::move(done)](Status saved) mutable {
                conclude(std::move(saved), std::move(done));
              });
}

void StateFile::conclude(Status saved, std::move_only_function<void(Status)> done) {
  --saving_;
  if (!saved) log::error("{}", describe(saved.error()));
  overtaken_.push_back(std::move(done));
  // What it was to change may be on the disk all the same when the last one has ended.
  if (!saved && saving_ > 0) return;
  for (auto& one : std::exchange(overtaken_, {})) one(saved);
}

}  // namespace rnbd::control
