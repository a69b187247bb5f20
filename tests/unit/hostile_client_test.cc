// SPDX-License-Identifier: Apache-2.0
// Clients that break RTRS's rules, against the whole server: what the rules forbid ends the path,
// and nobody else notices.
#include "unit/hostile_client.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>

#include "sim/memory_fabric.h"

namespace rnbd::server::test {
namespace {

using rtrs::ConnectRequest;
using rtrs::ConnectResponse;
using rtrs::Immediate;
using rtrs::ImmediateType;
using rtrs::InfoRequest;
using rtrs::ReadMessage;
using rtrs::WriteMessage;
using std::chrono::seconds;

constexpr std::uint32_t kChunk = kMaxIo + limits::kHeaderArea;
constexpr std::uint16_t kService = 0;  ///< connections, by what they are for
constexpr std::uint16_t kFirstIo = 1;
constexpr std::uint16_t kSecondIo = 2;

INSTANTIATE_TEST_SUITE_P(Orders, HostileClient,
                         testing::Combine(testing::ValuesIn(orders({0, 1, 2})), testing::Bool()),
                         order_name);

/// The positive errno of a reject; 0: it was something else.
int reject_of(const RawConnection& connection) {
  if (!connection.rejected || connection.answer.size() < sizeof(ConnectResponse)) return 0;
  const auto response = load<ConnectResponse>(connection.answer);
  EXPECT_EQ(response.magic, rtrs::kMagic);
  return -static_cast<std::int16_t>(response.error + 0);
}

TEST_P(HostileClient, WrongConnectRequestsAreRejectedWithAnErrno) {
  struct Case {
    const char* what;
    void (*spoil)(ConnectRequest&);
    int error;
  };
  const Case cases[] = {
      {"magic", [](ConnectRequest& r) { r.magic = 0xbd1b; }, ECONNRESET},
      {"version", [](ConnectRequest& r) { r.version = 0x0300; }, ECONNRESET},
      {"cid behind the last", [](ConnectRequest& r) { r.cid = 3; }, ECONNRESET},
      {"cid far behind", [](ConnectRequest& r) { r.cid = 65535; }, ECONNRESET},
      {"no connections", [](ConnectRequest& r) { r.connections = 0; }, ECONNRESET},
      {"too many connections", [](ConnectRequest& r) { r.connections = 5000; }, ECONNRESET},
      {"unknown session", [](ConnectRequest& r) { r.flags = 0; }, ENXIO},
      {"only reserved flags", [](ConnectRequest& r) { r.flags = 0xfe; }, ENXIO},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    ConnectRequest request = RawClient::request(0);
    one.spoil(request);
    EXPECT_EQ(reject_of(evil_.dial(join(request))), one.error);
    EXPECT_EQ(bench_.server.census(), before_);
  }
}

TEST_P(HostileClient, AServerThatIsDrainedTakesNoNewSession) {
  bench_.server.acceptor.refuse_new(true);
  EXPECT_FALSE(evil_.connect());
  EXPECT_EQ(reject_of(evil_[0]), ESHUTDOWN);
  EXPECT_TRUE(bench_.good.works()) << "it was there before";
  evil_.hang_up();
  bench_.server.acceptor.refuse_new(false);
  EXPECT_TRUE(evil_.bring_up());
}

TEST_P(HostileClient, PrivateDataTooShortForRtrsIsRejected) {
  const Bytes whole = join(RawClient::request(0));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    bench_.server.shown_private_data = length;
    EXPECT_EQ(reject_of(evil_.dial(whole)), ECONNRESET) << length;
  }
  bench_.server.shown_private_data = SIZE_MAX;
}

TEST_P(HostileClient, APathsConnectionsMustAgree) {
  ASSERT_TRUE(evil_.dial(join(RawClient::request(0, 3))).established);
  ASSERT_TRUE(evil_.dial(join(RawClient::request(1, 3))).established);
  EXPECT_EQ(reject_of(evil_.dial(join(RawClient::request(1, 3)))), ECONNRESET) << "cid 1 again";
  EXPECT_EQ(reject_of(evil_.dial(join(RawClient::request(2, 4)))), ECONNRESET) << "4 of 3";
  ConnectRequest twin = RawClient::request(0, 3);
  twin.path_uuid = {0xba, 3};
  EXPECT_EQ(reject_of(evil_.dial(join(twin))), EEXIST) << "the same addresses again";
  EXPECT_FALSE(evil_[0].over) << "none of that was the first connection's fault";
}

TEST_P(HostileClient, ALivePathTakesNoMoreConnections) {
  ASSERT_TRUE(evil_.bring_up());
  EXPECT_EQ(reject_of(evil_.dial(join(RawClient::request(1)))), ECONNRESET);
  EXPECT_FALSE(evil_[0].over);
}

TEST_P(HostileClient, ConnectionZeroAgainBeginsANewLifeOfAPath) {
  ASSERT_TRUE(evil_.connect());
  EXPECT_TRUE(evil_.dial(join(RawClient::request(0))).established) << "once the old life is over";
  EXPECT_TRUE(bench_.until([&] { return evil_[0].over; }));
  EXPECT_FALSE(evil_[3].over);
  EXPECT_EQ(bench_.server.acceptor.sessions().size(), 2U);
  evil_[3].send(join(RawClient::info("evil")));
  bench_.settle();
  EXPECT_TRUE(evil_[3].over) << "its other connections were the old life's";
}

TEST_P(HostileClient, AFurtherPathNeedsOneThatIsConnected) {
  const auto further = [] {
    ConnectRequest request = RawClient::request(0);
    request.path_uuid = {0xba, 3};
    request.flags = 0;
    return join(request);
  };
  RawClient other{bench_.fabric.host("good"), bench_.fabric.host("server").address(),
                  [this](const auto& condition) { return bench_.until(condition); }};
  bench_.pollers.push_back([&] { return other.poll(); });
  ASSERT_TRUE(evil_.connect());
  EXPECT_EQ(reject_of(other.dial(further())), ENXIO) << "the session's only path is half open";
  evil_[kService].send(join(RawClient::info("evil")));
  ASSERT_TRUE(bench_.until([&] { return !evil_.chunks.empty(); }));
  EXPECT_TRUE(other.dial(further()).established);
  evil_.hang_up();
  EXPECT_TRUE(other.is_cut_off()) << "it never came up by itself";
  other.close();
  bench_.pollers.pop_back();
}

TEST_P(HostileClient, NobodyEndsAPathFromElsewhere) {
  // The good client's very identifiers, from another host.
  ConnectRequest request = RawClient::request(0);
  request.session_uuid = {0x60, 1};
  request.path_uuid = {0x60, 2};
  EXPECT_EQ(reject_of(evil_.dial(join(request))), ECONNRESET);
}

TEST_P(HostileClient, AFurtherPathUnderAnotherNameIsEnded) {
  for (std::uint16_t cid = 0; cid < 3; ++cid) {
    ConnectRequest request = RawClient::request(cid);
    request.session_uuid = {0x60, 1};
    ASSERT_TRUE(evil_.dial(join(request)).established);
  }
  evil_[kService].send(join(RawClient::info("evil")));
  EXPECT_TRUE(evil_.is_cut_off());
  EXPECT_TRUE(evil_.chunks.empty());
}

TEST_P(HostileClient, AHalfOpenPathIsEnded) {
  ASSERT_TRUE(evil_.connect());
  bench_.pass(limits::kHalfOpenTimeout - seconds(1));
  EXPECT_FALSE(evil_.over());
  bench_.pass(seconds(2));
  EXPECT_TRUE(evil_.is_cut_off());
}

TEST_P(HostileClient, WrongInfoRequestsEndThePath) {
  InfoRequest wrong_type = RawClient::info("evil");
  wrong_type.type = rtrs::wire_type(rtrs::MessageType::InfoResponse);
  InfoRequest unterminated;
  unterminated.session_name.fill('x');
  const Bytes good = join(RawClient::info("evil"));
  const std::pair<const char*, Bytes> cases[] = {
      {"empty", {}},
      {"one byte", filled(1)},
      {"short", Bytes(good.begin(), good.end() - 1)},
      {"long", join(good, filled(1))},
      {"type", join(wrong_type)},
      {"slash", join(RawClient::info("a/b"))},
      {"dot", join(RawClient::info("."))},
      {"dots", join(RawClient::info("../etc"))},
      {"no name", join(RawClient::info(""))},
      {"unterminated", join(unterminated)},
      {"the good client's name", join(RawClient::info("good"))},
  };
  for (const auto& [what, message] : cases) {
    SCOPED_TRACE(what);
    ASSERT_TRUE(evil_.connect());
    evil_[0].send(message);
    EXPECT_TRUE(evil_.is_cut_off());
    EXPECT_TRUE(evil_.chunks.empty());
    expect_nothing_left();
  }
}

TEST_P(HostileClient, InfoBeforeAllConnectionsEndsThePath) {
  ASSERT_TRUE(evil_.dial(join(RawClient::request(0, 3))).established);
  ASSERT_TRUE(evil_.dial(join(RawClient::request(1, 3))).established);
  evil_[0].send(join(RawClient::info("evil")));
  EXPECT_TRUE(evil_.is_cut_off());
}

TEST_P(HostileClient, ASecondInfoEndsThePath) {
  ASSERT_TRUE(evil_.bring_up());
  evil_[0].send(join(RawClient::info("evil")));
  EXPECT_TRUE(evil_.is_cut_off());
}

TEST_P(HostileClient, NothingButInfoIsWelcomeBeforeInfo) {
  for (std::uint32_t type = 0; type < 16; ++type) {
    for (const std::uint16_t cid : {kService, kFirstIo}) {
      SCOPED_TRACE(fmt::format("immediate of type {} on connection {}", type, cid));
      ASSERT_TRUE(evil_.connect());
      evil_[cid].write_immediate(type << 28);
      EXPECT_TRUE(evil_.is_cut_off());
      expect_nothing_left();
    }
  }
}

TEST_P(HostileClient, InfoWithAnImmediateIsNoInfo) {
  ASSERT_TRUE(evil_.connect());
  evil_[kService].send_immediate(0, join(RawClient::info("evil")));
  EXPECT_TRUE(evil_.is_cut_off());
  EXPECT_TRUE(evil_.chunks.empty());
}

TEST_P(HostileClient, HeartbeatsBeforeTheAnswerToInfoEndThePath) {
  // More of them than the server's send queue could answer, while its control thread has yet to
  // look at INFO_REQ; and nobody takes the answers.
  ASSERT_TRUE(evil_.connect());
  bench_.control_is_busy = true;
  evil_[kService].reposts = false;
  evil_[kService].send(join(RawClient::info("evil")));
  for (int i = 0; i < 700; ++i) {
    evil_[kService].write_immediate(Immediate(ImmediateType::Heartbeat, 0).value());
  }
  bench_.settle();
  bench_.control_is_busy = false;
  EXPECT_TRUE(evil_.is_cut_off());
}

TEST_P(HostileClient, ImmediatesOfOtherTypesEndThePath) {
  for (std::uint32_t type = 1; type < 16; ++type) {
    if (type == 8 || type == 9) continue;  // the heartbeat's
    for (const std::uint16_t cid : {kService, kSecondIo}) {
      SCOPED_TRACE(fmt::format("type {} on connection {}", type, cid));
      bring_up_anew();
      evil_[cid].write_immediate(type << 28 | 5);
      EXPECT_TRUE(evil_.is_cut_off());
    }
  }
}

TEST_P(HostileClient, HeartbeatsAreAnsweredAndUnaskedAcksIgnored) {
  ASSERT_TRUE(evil_.bring_up());
  for (int i = 0; i < 300; ++i) {
    evil_[0].write_immediate(Immediate(ImmediateType::Heartbeat, 0x123).value());
    evil_[0].write_immediate(Immediate(ImmediateType::HeartbeatAck, 0).value());
    // A real adapter may hand them over all at once: more than the server's queue can answer.
    if (order_.real) bench_.until([&] { return evil_.heartbeat_acks == i + 1; });
  }
  EXPECT_TRUE(bench_.until([&] { return evil_.heartbeat_acks == 300; }));
  EXPECT_FALSE(evil_.over());
}

TEST_P(HostileClient, AClientThatTakesNoAnswersHarmsItselfOnly) {
  ASSERT_TRUE(evil_.bring_up());
  bench_.settle();
  for (const std::uint16_t cid : {kService, kFirstIo}) evil_[cid].reposts = false;
  for (int i = 0; i < 800; ++i) {
    evil_[0].write_immediate(Immediate(ImmediateType::Heartbeat, 0).value());
  }
  bench_.settle();
  for (std::uint32_t chunk = 0; chunk < kDepth; ++chunk) {
    RawRequest request = evil_.read_request(join(io(wire::Operation::Read, 0, kBlock, 99)), kBlock);
    request.chunk = chunk;
    request.cid = static_cast<std::uint16_t>(chunk % 2);
    evil_.post(request);
  }
  bench_.settle();
  EXPECT_TRUE(bench_.good.works());
}

TEST_P(HostileClient, ASilentClientIsGivenUp) {
  ASSERT_TRUE(evil_.bring_up());
  evil_[0].on_arrival = [](const auto&) {};
  bench_.pass(seconds(45));
  EXPECT_TRUE(evil_.is_cut_off());
}

TEST_P(HostileClient, SendsAreNotRequests) {
  // A good request lies in the chunk: it is how it is told that is wrong.
  const RawRequest request = RawClient::write_request(join(io(wire::Operation::Flush, 0, 0)));
  const std::uint32_t immediate =
      Immediate(ImmediateType::Request, rtrs::ChunkOffset{0, request.offset}.pack(kDepth)).value();
  for (const std::uint16_t cid : {kService, kFirstIo}) {
    for (const std::size_t length : {0U, 4U, 8U, 9U, 300U}) {
      SCOPED_TRACE(fmt::format("{} bytes on connection {}", length, cid));
      bring_up_anew();
      evil_[cid].send(filled(length));
      EXPECT_TRUE(evil_.is_cut_off());
      bring_up_anew();
      evil_[cid].write(request.bytes, evil_.chunks[0]);
      evil_[cid].send_immediate(immediate, filled(length));
      EXPECT_TRUE(evil_.is_cut_off());
      EXPECT_TRUE(evil_.answers.empty());
    }
  }
}

TEST_P(HostileClient, RequestsOutsideOfTheChunksEndThePath) {
  for (const auto& [chunk, offset] : std::initializer_list<std::pair<std::uint32_t, std::uint32_t>>{
           {kDepth, 0},
           {15, 0},
           {0, kChunk - 3},
           {kDepth - 1, kChunk - 3},
           {0, kChunk},
           {0, (1U << 24) - 1},
           {0, kChunk - 4},  // inside, but then all before it would be data
           {kDepth - 1, kChunk - 4}}) {
    SCOPED_TRACE(fmt::format("offset {} of chunk {}", offset, chunk));
    bring_up_anew();
    evil_.post({.chunk = chunk, .offset = offset});
    EXPECT_TRUE(evil_.is_cut_off());
  }
}

TEST_P(HostileClient, MessagesThatDoNotAddUpEndThePath) {
  ASSERT_TRUE(evil_.bring_up());  // its memory has a key now
  const Bytes user = join(io(wire::Operation::Read, 0, kBlock));
  const auto head = [](std::uint16_t type, std::uint16_t user_length) {
    WriteMessage message;
    message.type = type;
    message.user_length = user_length;
    return message;
  };
  const auto read = [&](std::uint16_t descriptors, std::uint32_t length) {
    ReadMessage message;
    message.user_length = 32;
    message.descriptors = descriptors;
    return RawRequest{.at = kBlock,
                      .bytes = join(user, message, evil_.room(length), evil_.room(length)),
                      .offset = kBlock + 32};
  };
  const auto plain = [&](std::uint32_t offset, const WriteMessage& message) {
    return RawRequest{.at = offset, .bytes = join(message), .offset = offset};
  };
  const std::pair<const char*, RawRequest> cases[] = {
      {"type 0", plain(32, head(0, 32))},
      {"type 1", plain(32, head(1, 32))},
      {"type 4", plain(32, head(4, 32))},
      {"type 65535", plain(32, head(65535, 32))},
      {"user message longer than what is there", plain(32, head(2, 33))},
      {"user message of 65535", plain(32, head(2, 65535))},
      {"user message too long for anything", plain(300, head(2, 265))},
      {"more data than fits", plain(kMaxIo + 33, head(2, 32))},
      {"nothing but data", plain(kChunk - 8, head(3, 32))},
      {"2 descriptors", read(2, kBlock)},
      {"65535 descriptors", read(65535, kBlock)},
      {"an empty descriptor", read(1, 0)},
      {"a descriptor beyond the data", read(1, kBlock + 1)},
      {"a huge descriptor", read(1, UINT32_MAX)},
  };
  for (const auto& [what, request] : cases) {
    SCOPED_TRACE(what);
    bring_up_anew();
    EXPECT_EQ(evil_.ask(request), RawClient::kClosed);
  }
}

TEST_P(HostileClient, AnswersToForeignMemoryEndThePath) {
  const std::pair<const char*, void (*)(rtrs::Descriptor&)> cases[] = {
      {"key", [](rtrs::Descriptor& room) { room.key = room.key + 1; }},
      {"key 0", [](rtrs::Descriptor& room) { room.key = 0; }},
      {"address 0", [](rtrs::Descriptor& room) { room.address = 0; }},
      {"last address", [](rtrs::Descriptor& room) { room.address = UINT64_MAX; }},
      {"over the end",
       [](rtrs::Descriptor& room) { room.address = room.address + (64 << 10) - 4; }},
  };
  for (const auto& [what, spoil] : cases) {
    SCOPED_TRACE(what);
    bring_up_anew();
    wire::SessionInfo hello;
    hello.header = wire::header(wire::MessageType::SessionInfo);
    RawRequest request = evil_.read_request(join(hello), sizeof hello);
    rtrs::Descriptor room = evil_.room(sizeof hello);
    spoil(room);
    store(std::span(request.bytes), room, request.bytes.size() - sizeof room);
    EXPECT_EQ(evil_.ask(request), RawClient::kClosed);
  }
}

TEST_P(HostileClient, AKeyThatCannotBeRevokedEndsThePathAndOneThatCanIsRevoked) {
  ASSERT_TRUE(evil_.bring_up());
  wire::SessionInfo hello;
  hello.header = wire::header(wire::MessageType::SessionInfo);
  RawRequest request = evil_.read_request(join(hello), sizeof hello);
  const std::size_t message_at = sizeof hello;
  auto message = load<ReadMessage>(request.bytes, message_at);
  message.flags = rtrs::kNeedInvalidate;
  store(std::span(request.bytes), message, message_at);

  rtrs::Descriptor room = evil_.room(sizeof hello);
  if (auto* const memory = dynamic_cast<sim::MemoryFabric*>(network_.get())) {
    room.key = memory->host("evil").device().add_invalidatable_key(evil_.region());
    store(std::span(request.bytes), room, request.bytes.size() - sizeof room);
    EXPECT_EQ(evil_.ask(request), 0);
    EXPECT_EQ(evil_.ask(request), RawClient::kClosed) << "its key is gone";
    bring_up_anew();
  }
  store(std::span(request.bytes), evil_.room(sizeof hello), request.bytes.size() - sizeof room);
  EXPECT_EQ(evil_.ask(request), RawClient::kClosed) << "a key that peers cannot revoke";
}

/// Of this process.
std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages >> pages;
  return pages * 4096;
}

class HostileClientWithDisk : public HostileClient {
 protected:
  void SetUp() override {
    HostileClient::SetUp();
    ASSERT_TRUE(evil_.bring_up());
    ASSERT_EQ(evil_.ask(evil_.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))),
              0);
    ASSERT_EQ(evil_.ask(write(0x11)), 0);
    ASSERT_EQ(disk("disk")[0], std::byte{0x11});
  }
  static RawRequest write(std::uint8_t value, std::uint64_t sector = 0) {
    return RawClient::write_request(join(io(wire::Operation::Write, sector, kBlock)),
                                    filled(kBlock, value));
  }
};

INSTANTIATE_TEST_SUITE_P(Orders, HostileClientWithDisk,
                         testing::Combine(testing::ValuesIn(orders({0, 1, 2})), testing::Bool()),
                         order_name);

TEST_P(HostileClientWithDisk, AChunkInUseIsNotTakenAgain) {
  for (const std::uint16_t cid : {kFirstIo, kSecondIo}) {
    SCOPED_TRACE(cid);
    bench_.server.disks.hold = true;
    evil_.post(write(0x22));
    ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == 1; }));
    // Without a write: with new keys the old one is dead by now.
    evil_.post({.cid = cid, .offset = kBlock + 32});
    EXPECT_TRUE(evil_.is_cut_off());
    bench_.settle();
    EXPECT_NE(bench_.server.census(), before_) << "the disk still uses the session's memory";
    bench_.server.disks.let_go();
    expect_nothing_left();
    EXPECT_EQ(disk("disk")[0], std::byte{0x22}) << "what was on its way is done";
    ASSERT_TRUE(evil_.bring_up());
    ASSERT_EQ(evil_.ask(evil_.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))),
              0);
  }
}

TEST_P(HostileClientWithDisk, GoneWhileItsRequestsRun) {
  bench_.server.disks.hold = true;
  for (std::uint32_t chunk = 0; chunk < kDepth; ++chunk) {
    RawRequest request = write(0x33, chunk * 8);
    request.chunk = chunk;
    request.cid = static_cast<std::uint16_t>(chunk % 3);
    evil_.post(request);
  }
  ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == kDepth; }));
  evil_.hang_up();
  bench_.settle();
  EXPECT_NE(bench_.server.census(), before_);
  bench_.server.disks.let_go();
}

TEST_P(HostileClientWithDisk, AThousandThatVanishLeaveNothing) {
  const int times = !order_.real && order_.seed == 0 ? 1000 : 50;
  [[maybe_unused]] std::size_t resident = 0;
  for (int i = 0; i < times; ++i) {
    evil_.post(write(0x44, static_cast<std::uint64_t>(i % 8) * 8));
    bring_up_anew();
    ASSERT_FALSE(HasFailure()) << "the " << i << "th time";
    ASSERT_EQ(evil_.ask(evil_.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))),
              0);
    if (i == times / 2) resident = resident_bytes();
  }
#ifndef RNBD_SANITIZED  // they keep what was freed for a while
  EXPECT_LT(resident_bytes(), resident + (1 << 20));
#endif
}

TEST_P(HostileClientWithDisk, ItsChunksWaitForItAndForNobodyElse) {
  const auto kept = [&] { return bench_.server.acceptor.memory_kept(); };
  expect_nothing_left();
  EXPECT_GT(kept(), 0U) << "it had a disk open";
  ConnectRequest other = RawClient::request(0);
  other.session_uuid = {0xba, 9};
  other.path_uuid = {0xba, 8};
  ASSERT_TRUE(evil_.dial(join(other)).established);
  EXPECT_GT(kept(), 0U) << "that is another session";
  bring_up_anew();
  EXPECT_EQ(kept(), 0U) << "it has them again";
  expect_nothing_left();
  EXPECT_EQ(kept(), 0U) << "nothing was open";

  ASSERT_TRUE(evil_.bring_up());
  ASSERT_EQ(evil_.ask(evil_.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))),
            0);
  expect_nothing_left();
  EXPECT_GT(kept(), 0U);
  bench_.pass(limits::kKeepMemory + seconds(1));
  EXPECT_TRUE(bench_.until([&] { return kept() == 0; })) << "it did not come back";
}

/// Where each answer brings a new key, and the old one dies.
class HostileClientWithNewKeys : public HostileClientWithDisk {};
INSTANTIATE_TEST_SUITE_P(Orders, HostileClientWithNewKeys,
                         testing::Combine(testing::ValuesIn(orders({0, 1, 2})),
                                          testing::Values(true)),
                         order_name);

TEST_P(HostileClientWithNewKeys, AStaleKeyReachesNothing) {
  const std::size_t operations = bench_.server.disks.operations;

  // The key of a request that has been answered.
  const transport::RemoteMemory current = evil_.chunks[0];
  ASSERT_EQ(evil_.ask(write(0x44)), 0);
  evil_.chunks[0] = current;
  EXPECT_EQ(evil_.ask(write(0x55)), RawClient::kClosed);
  EXPECT_EQ(bench_.server.disks.operations, operations + 1);
  EXPECT_EQ(disk("disk")[0], std::byte{0x44});

  // The key of a request that runs.
  bring_up_anew();
  ASSERT_EQ(evil_.ask(evil_.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))),
            0);
  const transport::RemoteMemory stale = evil_.chunks[0];
  bench_.server.disks.hold = true;
  evil_.post(write(0x66));
  ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == 1; }));
  evil_[1].write(filled(kBlock, 0x77), stale);
  EXPECT_TRUE(evil_.is_cut_off());
  bench_.settle();
  bench_.server.disks.let_go();
  bench_.settle();
  EXPECT_EQ(disk("disk")[0], std::byte{0x66});
  EXPECT_EQ(disk("disk")[kBlock - 1], std::byte{0x66});
}

TEST_P(HostileClientWithNewKeys, AReadsKeyIsDeadWhileItRuns) {
  bench_.server.disks.hold = true;
  const transport::RemoteMemory stale = evil_.chunks[0];
  evil_.post(evil_.read_request(join(io(wire::Operation::Read, 0, kBlock)), kBlock));
  ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == 1; }));
  evil_[1].write(filled(kBlock, 0x77), stale);
  EXPECT_TRUE(evil_.is_cut_off());
  bench_.settle();
  bench_.server.disks.let_go();
}

/// Where keys live as long as the path, and chunks can be written into at any time.
class HostileClientWithOneKey : public HostileClientWithDisk {};
INSTANTIATE_TEST_SUITE_P(Orders, HostileClientWithOneKey,
                         testing::Combine(testing::ValuesIn(orders({0, 1, 2})),
                                          testing::Values(false)),
                         order_name);

TEST_P(HostileClientWithOneKey, AMessageIsReadOnce) {
  bench_.server.disks.hold = true;
  const RawRequest request = write(0x22);
  evil_.post(request);
  ASSERT_TRUE(bench_.until([&] { return bench_.server.disks.held.size() == 1; }));
  // All of the messages become something else while the disk works.
  transport::RemoteMemory messages = evil_.chunks[0];
  messages.address += kBlock;
  evil_[2].write(filled(limits::kHeaderArea, 0xff), messages);
  bench_.settle();
  bench_.server.disks.let_go();
  EXPECT_EQ(evil_.outcome_of(0), 0);
  EXPECT_EQ(disk("disk")[0], std::byte{0x22});
}

}  // namespace
}  // namespace rnbd::server::test
