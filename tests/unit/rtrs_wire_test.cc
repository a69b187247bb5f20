// SPDX-License-Identifier: Apache-2.0
// Golden bytes: what the Linux kernel's rtrs and rnbd modules put on the wire, to the byte.
#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "common/rnbd_wire.h"
#include "transport/rtrs/handshake.h"
#include "transport/rtrs/immediate.h"
#include "transport/rtrs/wire.h"

namespace rnbd::rtrs {
namespace {

std::vector<std::uint8_t> hex(std::span<const std::byte> bytes) {
  std::vector<std::uint8_t> result(bytes.size());
  std::ranges::transform(bytes, result.begin(),
                         [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
  return result;
}

std::vector<std::uint8_t> padded(std::vector<std::uint8_t> bytes, std::size_t size) {
  bytes.resize(size);
  return bytes;
}

std::vector<std::byte> to_bytes(const std::vector<std::uint8_t>& values) {
  std::vector<std::byte> result(values.size());
  std::ranges::transform(values, result.begin(),
                         [](std::uint8_t value) { return std::byte{value}; });
  return result;
}

ConnectRequest sample_request() {
  ConnectRequest request;
  request.cid = 0;
  request.connections = 9;
  request.reconnect_count = 1;
  std::iota(request.path_uuid.begin(), request.path_uuid.end(), std::uint8_t{0xa0});
  std::iota(request.session_uuid.begin(), request.session_uuid.end(), std::uint8_t{0xb0});
  request.flags = kFirstConnection;
  return request;
}

constexpr ServerParameters kKernelDefaults{
    .queue_depth = 512, .max_io_size = 126976, .max_header_size = 4096, .new_key = true};

TEST(RtrsWire, ConnectRequestIsTheKernels) {
  const std::vector<std::uint8_t> golden = {
      0x00, 0x00, 0xbd, 0x1b, 0x00, 0x02, 0x00, 0x00, 0x09, 0x00, 0x01, 0x00, 0xa0, 0xa1,
      0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
      0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd,
      0xbe, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(hex(bytes_of(sample_request())), golden);
  const auto parsed = parse_connect_request(to_bytes(golden));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->connections, 9);
  EXPECT_EQ(parsed->session_uuid[15], 0xbf);
}

TEST(RtrsWire, AcceptIsTheKernels) {
  const std::vector<std::uint8_t> golden =
      padded({0xbd, 0x1b, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x00, 0xf0,
              0x01, 0x00, 0x00, 0x10, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00},
             56);
  EXPECT_EQ(hex(bytes_of(make_accept(kKernelDefaults))), golden);
  // As it arrives over InfiniBand: padded with zeros.
  const auto parsed = parse_connect_response(to_bytes(padded(golden, 196)));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed, kKernelDefaults);
}

TEST(RtrsWire, RejectIsTheKernels) {
  const std::vector<std::uint8_t> golden = padded({0xbd, 0x1b, 0x00, 0x02, 0x98, 0xff}, 56);
  EXPECT_EQ(hex(bytes_of(make_reject(ECONNRESET))), golden);
  EXPECT_EQ(parse_reject(to_bytes(padded(golden, 148))).code, ECONNRESET);
}

TEST(RtrsWire, RejectWithoutWordsIsRefused) {
  EXPECT_EQ(parse_reject({}).code, ECONNREFUSED);
  EXPECT_EQ(parse_reject(std::vector<std::byte>(148)).code, ECONNREFUSED);
}

TEST(RtrsWire, ImmediatesAreTheKernels) {
  const auto request = [](std::uint32_t chunk, std::uint32_t offset) {
    return Immediate(ImmediateType::Request, ChunkOffset{chunk, offset}.pack(512)).value();
  };
  EXPECT_EQ(request(5, 4096 + 32), 0x00281020U);
  EXPECT_EQ(request(0, 36 + 36), 0x00000048U);
  EXPECT_EQ(request(1, 56 + 264), 0x00080140U);
  EXPECT_EQ(request(2, 8), 0x00100008U);
  EXPECT_EQ(request(3, 32), 0x00180020U);
  const auto response = [](ImmediateType type, std::uint32_t chunk, std::uint32_t error) {
    return Immediate(type, Outcome{chunk, error}.pack()).value();
  };
  EXPECT_EQ(response(ImmediateType::Response, 5, 0), 0x10000005U);
  EXPECT_EQ(response(ImmediateType::ResponseInvalidated, 5, 0), 0x20000005U);
  EXPECT_EQ(response(ImmediateType::Response, 5, EIO), 0x10280005U);
  EXPECT_EQ(response(ImmediateType::ResponseInvalidated, 5, EIO), 0x20280005U);
  EXPECT_EQ(response(ImmediateType::Response, 5, ENOTCONN), 0x13580005U);
  EXPECT_EQ(Immediate(ImmediateType::Heartbeat, 0).value(), 0x80000000U);
  EXPECT_EQ(Immediate(ImmediateType::HeartbeatAck, 0).value(), 0x90000000U);
}

TEST(RtrsWire, ImmediatesComeBackAsTheyWere) {
  for (const std::uint32_t depth : {1U, 2U, 3U, 512U, 1000U, 65535U}) {
    const std::uint32_t last_offset = (1U << ChunkOffset::offset_bits(depth)) - 1;
    for (const std::uint32_t chunk : {0U, depth / 2, depth - 1}) {
      const auto back = ChunkOffset::unpack(ChunkOffset{chunk, last_offset}.pack(depth), depth);
      EXPECT_EQ(back.chunk, chunk) << depth;
      EXPECT_EQ(back.offset, last_offset) << depth;
    }
  }
  const auto outcome = Outcome::unpack(Outcome{65534, 511}.pack());
  EXPECT_EQ(outcome.chunk, 65534U);
  EXPECT_EQ(outcome.error, 511U);
}

TEST(RnbdWire, IoIsTheKernels) {
  wire::Io io;
  io.header = wire::header(wire::MessageType::Io);
  io.sector = 2048;
  io.rw = static_cast<std::uint32_t>(wire::Operation::Write) | wire::kFlagSync;
  io.size = 4096;
  const std::vector<std::uint8_t> golden = {0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                            0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                            0x01, 0x01, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,
                                            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(hex(bytes_of(io)), golden);
}

TEST(RtrsWire, RequestMessagesAreTheKernels) {
  WriteMessage write;
  write.user_length = 32;
  EXPECT_EQ(hex(bytes_of(write)), (std::vector<std::uint8_t>{0x02, 0x00, 0x20, 0x00}));
  ReadMessage read;
  read.user_length = 32;
  read.descriptors = 1;
  EXPECT_EQ(hex(bytes_of(read)), (std::vector<std::uint8_t>{3, 0, 0x20, 0, 0, 0, 1, 0}));
  read.flags = kNeedInvalidate;
  EXPECT_EQ(hex(bytes_of(read)), (std::vector<std::uint8_t>{3, 0, 0x20, 0, 1, 0, 1, 0}));
  ReadMessage flush;
  flush.user_length = 32;
  EXPECT_EQ(hex(bytes_of(flush)), (std::vector<std::uint8_t>{3, 0, 0x20, 0, 0, 0, 0, 0}));
}

// --- What must be refused --------------------------------------------------------------------

TEST(Handshake, RefusesOtherPrivateData) {
  const auto refused = [](auto change) {
    ConnectRequest request = sample_request();
    change(request);
    const auto parsed = parse_connect_request(bytes_of(request));
    return !parsed && parsed.error().code == ECONNRESET;
  };
  EXPECT_FALSE(refused([](ConnectRequest&) {}));
  EXPECT_FALSE(refused([](ConnectRequest& request) { request.version = 0x02ff; }));
  EXPECT_TRUE(refused([](ConnectRequest& request) { request.magic = 0xbd1b; }));
  EXPECT_TRUE(refused([](ConnectRequest& request) { request.version = 0x0300; }));
  EXPECT_TRUE(refused([](ConnectRequest& request) { request.cid = 9; }));
  EXPECT_TRUE(refused([](ConnectRequest& request) { request.connections = 0; }));
  EXPECT_TRUE(refused([](ConnectRequest& request) { request.connections = 4097; }));
  const ConnectRequest whole = sample_request();
  for (std::size_t length = 0; length < sizeof whole; ++length) {
    EXPECT_FALSE(parse_connect_request(bytes_of(whole).first(length))) << length;
  }
}

TEST(Handshake, RefusesParametersThatCannotWork) {
  const auto refused = [](auto change) {
    ConnectResponse response = make_accept(kKernelDefaults);
    change(response);
    return !parse_connect_response(bytes_of(response));
  };
  EXPECT_FALSE(refused([](ConnectResponse&) {}));
  EXPECT_TRUE(refused([](ConnectResponse& response) { response.queue_depth = 0; }));
  EXPECT_TRUE(refused([](ConnectResponse& response) { response.max_io_size = 0; }));
  EXPECT_TRUE(refused([](ConnectResponse& response) { response.max_io_size = 0xffffffff; }));
  EXPECT_TRUE(refused([](ConnectResponse& response) { response.max_header_size = 16; }));
  EXPECT_TRUE(refused([](ConnectResponse& response) { response.queue_depth = 65535; }));
  EXPECT_TRUE(refused([](ConnectResponse& response) { response.error = 0xff98; }));
}

std::vector<std::byte> info_response(const std::vector<Descriptor>& descriptors) {
  InfoResponse head;
  head.descriptors = static_cast<std::uint16_t>(descriptors.size());
  std::vector<std::byte> message(sizeof head + descriptors.size() * sizeof(Descriptor));
  store(std::span(message), head);
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    store(std::span(message), descriptors[i], sizeof head + i * sizeof(Descriptor));
  }
  return message;
}

Descriptor descriptor(std::uint64_t address, std::uint32_t key, std::uint32_t chunks) {
  Descriptor result;
  result.address = address;
  result.key = key;
  result.length = chunks * kKernelDefaults.chunk_size();
  return result;
}

TEST(Handshake, ChunksFollowFromDescriptors) {
  const auto one =
      parse_info_response(info_response({descriptor(0x1000, 7, 512)}), kKernelDefaults);
  ASSERT_TRUE(one);
  ASSERT_EQ(one->size(), 512U);
  EXPECT_EQ((*one)[511].address, 0x1000 + 511 * std::uint64_t{kKernelDefaults.chunk_size()});
  const auto two = parse_info_response(
      info_response({descriptor(0x1000, 7, 500), descriptor(0x90000000, 8, 12)}), kKernelDefaults);
  ASSERT_TRUE(two);
  EXPECT_EQ((*two)[500].address, 0x90000000U);
  EXPECT_EQ((*two)[500].key, 8U);
}

TEST(Handshake, RefusesDescriptorsThatDoNotAddUp) {
  const auto refused = [](const std::vector<std::byte>& message) {
    return !parse_info_response(message, kKernelDefaults);
  };
  EXPECT_TRUE(refused({}));
  EXPECT_TRUE(refused(info_response({})));
  EXPECT_TRUE(refused(info_response({descriptor(0, 7, 511)})));
  EXPECT_TRUE(refused(info_response({descriptor(0, 7, 512), descriptor(0, 7, 1)})));
  EXPECT_TRUE(refused(info_response({descriptor(0, 7, 0)})));
  EXPECT_TRUE(refused(info_response({descriptor(UINT64_MAX - 4096, 7, 512)})));
  auto odd = descriptor(0, 7, 512);
  odd.length = odd.length - 1;
  EXPECT_TRUE(refused(info_response({odd})));
  auto cut = info_response({descriptor(0, 7, 512)});
  cut.pop_back();
  EXPECT_TRUE(refused(cut));
}

TEST(Handshake, SessionNamesFollowTheRule) {
  EXPECT_TRUE(valid_session_name("blya"));
  EXPECT_TRUE(valid_session_name(std::string(254, 'x')));
  EXPECT_FALSE(valid_session_name(""));
  EXPECT_FALSE(valid_session_name("a/b"));
  EXPECT_FALSE(valid_session_name("a.b"));
  EXPECT_FALSE(valid_session_name(std::string(255, 'x')));

  InfoRequest request;
  std::ranges::copy(std::string_view("blya"), request.session_name.begin());
  const auto name = parse_info_request(bytes_of(request));
  ASSERT_TRUE(name);
  EXPECT_EQ(*name, "blya");
  request.session_name.fill('x');
  EXPECT_FALSE(parse_info_request(bytes_of(request)));
  EXPECT_FALSE(parse_info_request(bytes_of(InfoRequest{})));
  request.type = 3;
  EXPECT_FALSE(parse_info_request(bytes_of(request)));
}

}  // namespace
}  // namespace rnbd::rtrs
