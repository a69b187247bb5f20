// SPDX-License-Identifier: Apache-2.0
// What a daemon remembers: replaced as a whole, set aside when damaged, never written over.
#include "common/control/state_file.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/atomic_file.h"
#include "common/control/asio_context.h"
#include "unit/control_thread.h"
#include "unit/temp_directory.h"

namespace rnbd::control {
namespace {

using testing::HasSubstr;

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(ReplaceFile, PutsTheNewInPlaceOfTheOld) {
  const test::TempDirectory directory;
  const std::string path = directory.path() / "state";
  ASSERT_TRUE(replace_file(path, "one"));
  ASSERT_TRUE(replace_file(path, "two"));
  EXPECT_EQ(content_of(path), "two");
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1)
      << "nothing is left beside it";
}

TEST(ReplaceFile, LeavesTheOldIfTheNewCannotBeWritten) {
  const test::TempDirectory directory;
  const std::string path = directory.path() / "state";
  ASSERT_TRUE(replace_file(path, "one"));
  std::filesystem::create_directory(path + ".new");
  EXPECT_EQ(replace_file(path, "two").error().code, EISDIR);
  EXPECT_EQ(content_of(path), "one");
  EXPECT_EQ(replace_file(directory.path() / "none/state", "x").error().code, ENOENT);
}

TEST(ReplaceFile, WhatIsSetAsideKeepsItsNumbers) {
  const test::TempDirectory directory;
  const std::string path = directory.path() / "state";
  for (const std::string number : {"1", "2"}) {
    std::ofstream(path) << number;
    EXPECT_EQ(set_aside(path).value(), path + ".damaged-" + number);
    EXPECT_EQ(content_of(path + ".damaged-" + number), number);
  }
  EXPECT_EQ(set_aside(path).error().code, ENOENT);
}

class State : public testing::Test {
 protected:
  ~State() override {
    thread_.run([this] { state_.reset(); });
  }

  /// As by a daemon that has just started.
  Result<Json> load() {
    return thread_.run([this] {
      state_.reset();
      state_ = std::make_unique<StateFile>(context_, directory_.path().string(), "state.json");
      return state_->load([](const Json& content) { content.at("list").get<std::vector<int>>(); });
    });
  }
  Status save(const Json& content) {
    std::promise<Status> saved;
    thread_.run(
        [&] { state_->save(content, [&](Status status) { saved.set_value(std::move(status)); }); });
    return saved.get_future().get();
  }

  test::TempDirectory directory_;
  std::string path_ = directory_.path() / "state.json";
  test::ControlThread thread_;
  AsioContext context_{thread_.context()};
  std::unique_ptr<StateFile> state_;
};

TEST_F(State, WhatIsSavedIsThereAgain) {
  EXPECT_TRUE(load()->is_null()) << "nothing is remembered yet";
  ASSERT_TRUE(save({{"list", {1, 2}}}));
  EXPECT_EQ(load()->at("list"), Json({1, 2}));
  ASSERT_TRUE(save({{"list", Json::array()}}));
  EXPECT_TRUE(load()->at("list").empty());
}

TEST_F(State, ADamagedFileIsSetAside) {
  for (const std::string text : {"", "{\"version\":1,\"list\":[1", "[]", "{\"list\":[]}",
                                 "{\"version\":1,\"list\":[\"x\"]}", "\xff\xfe"}) {
    std::ofstream(path_) << text;
    const auto loaded = load();
    ASSERT_TRUE(loaded) << text;
    EXPECT_TRUE(loaded->is_null()) << text;
    EXPECT_FALSE(std::filesystem::exists(path_)) << text;
  }
  EXPECT_EQ(content_of(path_ + ".damaged-2"), "{\"version\":1,\"list\":[1");
  EXPECT_EQ(content_of(path_ + ".damaged-6"), "\xff\xfe");
  EXPECT_TRUE(save({{"list", {3}}}));
  EXPECT_EQ(load()->at("list"), Json({3}));
}

TEST_F(State, IsReadOnAThreadOfItsOwnToo) {
  ASSERT_TRUE(load());
  ASSERT_TRUE(save({{"list", {1}}}));
  std::promise<Json> loaded;
  thread_.run([&] {
    state_.reset();
    state_ = std::make_unique<StateFile>(context_, directory_.path().string(), "state.json");
    state_->load_later([](const Json&) {},
                       [&](const Result<Json>& read) { loaded.set_value(read.value()); });
  });
  EXPECT_EQ(loaded.get_future().get().at("list"), Json({1}));
  EXPECT_TRUE(save({{"list", {2}}})) << "it is locked and known now";
  StateFile nowhere(context_, "", "state.json");
  int code = 0;
  nowhere.load_later([](const Json&) {},
                     [&](const Result<Json>& read) { code = read.error().code; });
  EXPECT_EQ(code, EOPNOTSUPP);
}

TEST_F(State, WhatIsTooLongToBeReadAgainIsNotWritten) {
  ASSERT_TRUE(load());
  ASSERT_TRUE(save({{"list", {1}}}));
  EXPECT_EQ(save({{"list", std::string(8 << 20, 'x')}}).error().code, EFBIG);
  EXPECT_EQ(load()->at("list"), Json({1}));
}

TEST_F(State, WithoutAPlaceForItsDirectoryNothingIsRemembered) {
  StateFile lost(context_, (directory_.path() / "none/none").string(), "state.json");
  EXPECT_EQ(thread_.run([&] { return lost.load([](const Json&) {}); }).error().code, ENOENT);
}

TEST_F(State, ALaterVersionsFileIsLeftAlone) {
  const std::string later = "{\"version\":2,\"other\":1}";
  std::ofstream(path_) << later;
  EXPECT_EQ(load().error().code, EPROTO);
  EXPECT_EQ(save({{"list", {1}}}).error().code, EPROTO);
  EXPECT_EQ(content_of(path_), later);
}

TEST_F(State, WhatCannotBeReadIsNotWrittenOver) {
  std::filesystem::create_directory(path_);
  EXPECT_EQ(load().error().code, EISDIR);
  EXPECT_EQ(save({{"list", {1}}}).error().code, EISDIR);
}

TEST_F(State, OneDaemonHasItAtATime) {
  ASSERT_TRUE(load());
  StateFile other(context_, directory_.path().string(), "state.json");
  EXPECT_EQ(thread_.run([&] { return other.load([](const Json&) {}); }).error().code, EBUSY);
  thread_.run([this] { state_.reset(); });
  StateFile next(context_, directory_.path().string(), "state.json");
  EXPECT_TRUE(thread_.run([&] { return next.load([](const Json&) {}); }));
}

TEST_F(State, WhatFailsBehindALaterOneEndsAsThatDoes) {
  ASSERT_TRUE(load());
  // Writing waits for a reader, and cannot be synchronised then; it is removed, and the next works.
  ASSERT_EQ(::mkfifo((path_ + ".new").c_str(), 0600), 0);
  std::promise<Status> first;
  std::promise<Status> second;
  thread_.run([&] {
    state_->save({{"list", {1}}}, [&](Status status) { first.set_value(std::move(status)); });
    state_->save({{"list", {1, 2}}}, [&](Status status) { second.set_value(std::move(status)); });
  });
  const UniqueFd reader(::open((path_ + ".new").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(first.get_future().get()) << "what it wanted saved is saved";
  EXPECT_TRUE(second.get_future().get());
  EXPECT_EQ(load()->at("list"), Json({1, 2}));
}

TEST_F(State, WithoutADirectoryNothingIsRemembered) {
  StateFile nowhere(context_, "", "state.json");
  EXPECT_EQ(nowhere.load([](const Json&) {}).error().code, EOPNOTSUPP);
  int code = 0;
  nowhere.save(Json::object(), [&](const Status& saved) { code = saved.error().code; });
  EXPECT_EQ(code, EOPNOTSUPP);
}

TEST_F(State, TheDirectoryIsMade) {
  StateFile made(context_, (directory_.path() / "new").string(), "state.json");
  EXPECT_TRUE(thread_.run([&] { return made.load([](const Json&) {}); }));
  EXPECT_TRUE(std::filesystem::is_directory(directory_.path() / "new"));
}

}  // namespace
}  // namespace rnbd::control
