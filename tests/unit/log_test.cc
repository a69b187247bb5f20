// SPDX-License-Identifier: Apache-2.0
// What the log does to a line before anybody reads it.
#include "common/log.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/journald.h"
#include "common/printable.h"
#include "unit/temp_directory.h"

namespace rnbd {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(Printable, LeavesTextAloneAndWritesControlCharactersOut) {
  EXPECT_EQ(printable("vol1 ä €"), "vol1 ä €");
  EXPECT_EQ(printable("a\nb\x1b[2J\x7f"), "a\\x0ab\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"), "\\x9b") << "a control character in two bytes";
}

TEST(Log, APeersNameStaysOnItsLine) {
  testing::internal::CaptureStderr();
  log::start("info");
  log::info("session {} is up", "evil\n2026-01-01 error: all is lost");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(text, '\n'), 1) << text;
  EXPECT_NE(text.find("evil\\x0a2026"), std::string::npos) << text;
}

/// journald's end.
class Journald : public testing::Test {
 protected:
  void SetUp() override {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::ranges::copy(path_, address.sun_path);
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
  }

  std::string datagram() {
    std::array<char, 4096> bytes{};
    const auto length = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    return length < 0 ? "none" : std::string(bytes.data(), static_cast<std::size_t>(length));
  }

  test::TempDirectory directory_;
  std::string path_ = directory_.path().string() + "/socket";
  UniqueFd socket_;
  spdlog::logger logger_{"test", std::make_shared<log::JournaldSink>(path_)};
};

TEST_F(Journald, GetsALineWithItsFields) {
  {
    const log::About about("blya", "/dev/nbd0");
    logger_.warn("{} is slow", "it");
  }
  EXPECT_EQ(datagram(), fmt::format("PRIORITY=4\nSYSLOG_IDENTIFIER={}\nRNBD_SESSION=blya\n"
                                    "RNBD_DEVICE=/dev/nbd0\nMESSAGE=it is slow\n",
                                    ::program_invocation_short_name));
  logger_.info("plain");
  EXPECT_THAT(datagram(), Not(HasSubstr("RNBD_")));
}

TEST_F(Journald, WhatIsSaidInsideCountsUntilItsEnd) {
  const log::About session("blya");
  {
    const log::About device("blya", "vol1");
    logger_.info("one");
  }
  logger_.error("two");
  EXPECT_THAT(datagram(), HasSubstr("RNBD_DEVICE=vol1\n"));
  const std::string second = datagram();
  EXPECT_THAT(second, StartsWith("PRIORITY=3\n"));
  EXPECT_THAT(second, HasSubstr("RNBD_SESSION=blya\n"));
  EXPECT_THAT(second, Not(HasSubstr("RNBD_DEVICE")));
}

TEST_F(Journald, APeersNameAddsNoField) {
  const log::About about("evil\nPRIORITY=0");
  logger_.info("session {} is up", "x\nMESSAGE=all is lost");
  const std::string text = datagram();
  EXPECT_EQ(std::ranges::count(text, '\n'), 4) << text;
  EXPECT_THAT(text, HasSubstr("RNBD_SESSION=evil\\x0aPRIORITY=0\n"));
}

TEST_F(Journald, ThatIsNotThereLeavesLinesToStderr) {
  socket_.reset();
  testing::internal::CaptureStderr();
  logger_.error("all is lost");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "<3>all is lost\n");
}

TEST_F(Journald, ThatReadsNothingHoldsNobodyUp) {
  for (int i = 0; i < 2000; ++i) logger_.info("line {}", i);
  std::size_t taken = 0;
  while (datagram() != "none") ++taken;
  ASSERT_LT(taken, 2000U);
  logger_.info("the last one");
  EXPECT_THAT(datagram(), HasSubstr(fmt::format("MESSAGE={} lines were lost", 2000 - taken)));
  EXPECT_THAT(datagram(), HasSubstr("MESSAGE=the last one\n"));
}

TEST(JournalStream, IsTheOneThatStderrEndsIn) {
  struct stat status{};
  ASSERT_EQ(::fstat(STDIN_FILENO, &status), 0);
  const std::string stream = fmt::format("{}:{}", status.st_dev, status.st_ino);
  EXPECT_TRUE(log::is_journal(stream.c_str(), STDIN_FILENO));
  EXPECT_FALSE(log::is_journal((stream + "0").c_str(), STDIN_FILENO));
  EXPECT_FALSE(log::is_journal("", STDIN_FILENO));
  EXPECT_FALSE(log::is_journal(nullptr, STDIN_FILENO));
}

}  // namespace
}  // namespace rnbd
