// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/handshake.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include <fmt/format.h>

#include "common/limits.h"
#include "transport/rtrs/request_channel.h"

namespace rnbd::rtrs {
namespace {

constexpr std::uint16_t major(std::uint16_t version) { return version >> 8; }

Status check_magic(std::uint16_t magic, std::uint16_t version) {
  if (magic != kMagic) return fail(EPROTO, fmt::format("not RTRS: its magic is {:#06x}", magic));
  if (major(version) != major(kVersion)) {
    return fail(EPROTO, fmt::format("speaks RTRS version {}.{}, we speak {}.{}", version >> 8,
                                    version & 0xff, kVersion >> 8, kVersion & 0xff));
  }
  return {};
}

}  // namespace

Result<ConnectRequest> parse_connect_request(std::span<const std::byte> private_data) {
  if (private_data.size() < sizeof(ConnectRequest)) {
    return fail(ECONNRESET,
                fmt::format("{} bytes of private data are too few for RTRS", private_data.size()));
  }
  const auto request = load<ConnectRequest>(private_data);
  if (Status magic = check_magic(request.magic, request.version); !magic) {
    return fail(ECONNRESET, magic.error().message);
  }
  if (request.connections == 0 || request.connections > limits::kMaxConnections) {
    return fail(ECONNRESET, fmt::format("{} connections asked for; 1 to {} are possible",
                                        request.connections + 0, limits::kMaxConnections));
  }
  if (request.cid >= request.connections) {
    return fail(ECONNRESET,
                fmt::format("connection {} of {}", request.cid + 0, request.connections + 0));
  }
  return request;
}

Result<ServerParameters> parse_connect_response(std::span<const std::byte> private_data) {
  if (private_data.size() < sizeof(ConnectResponse)) {
    return fail(EPROTO,
                fmt::format("{} bytes of private data are too few for RTRS", private_data.size()));
  }
  const auto response = load<ConnectResponse>(private_data);
  if (Status magic = check_magic(response.magic, response.version); !magic) {
    return fail(magic.error());
  }
  if (response.error != 0) return fail(parse_reject(private_data));
  const ServerParameters parameters{.queue_depth = response.queue_depth,
                                    .max_io_size = response.max_io_size,
                                    .max_header_size = response.max_header_size,
                                    .new_key = (response.flags & kNewKey) != 0};
  const std::uint64_t chunk = std::uint64_t{parameters.max_io_size} + parameters.max_header_size;
  // One chunk for service messages, one for I/O at least.
  if (parameters.queue_depth < 2 || parameters.max_io_size < 4096 || chunk > UINT32_MAX ||
      parameters.max_header_size < kMaxUserMessage + sizeof(ReadMessage) + sizeof(Descriptor) ||
      !limits::chunks_fit(parameters.queue_depth, static_cast<std::uint32_t>(chunk))) {
    return fail(EPROTO, fmt::format("offers {} chunks of {} + {} bytes, which cannot be used",
                                    parameters.queue_depth, parameters.max_io_size,
                                    parameters.max_header_size));
  }
  return parameters;
}

Error parse_reject(std::span<const std::byte> private_data) {
  if (private_data.size() < sizeof(ConnectResponse)) {
    return {ECONNREFUSED, "the server refused the connection without a reason"};
  }
  const auto response = load<ConnectResponse>(private_data);
  const int code = -static_cast<std::int16_t>(response.error + 0);
  if (response.magic != kMagic || code <= 0 || code > 4095) {
    return {ECONNREFUSED, "the server refused the connection without a reason"};
  }
  if (code == ENOMEM) {
    return {code,
            "the server refused the connection: one of its limits is reached; its log has it"};
  }
  return {code, "the server refused the connection"};
}

Result<std::string> parse_info_request(std::span<const std::byte> message) {
  if (message.size() < sizeof(InfoRequest)) {
    return fail(EPROTO, fmt::format("INFO_REQ of {} bytes instead of {}", message.size(),
                                    sizeof(InfoRequest)));
  }
  const auto request = load<InfoRequest>(message);
  if (request.type != wire_type(MessageType::InfoRequest)) {
    return fail(EPROTO, fmt::format("message of type {} instead of INFO_REQ", request.type + 0));
  }
  const auto end = std::ranges::find(request.session_name, '\0');
  if (end == request.session_name.end()) return fail(EINVAL, "unterminated session name");
  std::string name(request.session_name.begin(), end);
  if (!valid_session_name(name))
    return fail(EINVAL, "a session name without letters, or with '/' or '.'");
  return name;
}

Result<std::vector<transport::RemoteMemory>> parse_info_response(
    std::span<const std::byte> message, const ServerParameters& parameters) {
  if (message.size() < sizeof(InfoResponse)) return fail(EPROTO, "INFO_RSP is too short");
  const auto response = load<InfoResponse>(message);
  const std::size_t count = response.descriptors;
  if (response.type != wire_type(MessageType::InfoResponse)) {
    return fail(EPROTO, fmt::format("message of type {} instead of INFO_RSP", response.type + 0));
  }
  if (count == 0 || message.size() < sizeof(InfoResponse) + count * sizeof(Descriptor)) {
    return fail(EPROTO, fmt::format("INFO_RSP of {} bytes cannot hold {} descriptors",
                                    message.size(), count));
  }
  std::vector<transport::RemoteMemory> chunks;
  chunks.reserve(parameters.queue_depth);
  for (std::size_t i = 0; i < count; ++i) {
    const auto descriptor =
        load<Descriptor>(message, sizeof(InfoResponse) + i * sizeof(Descriptor));
    const std::uint32_t length = descriptor.length;
    if (length == 0 || length % parameters.chunk_size() != 0 ||
        length / parameters.chunk_size() > parameters.queue_depth - chunks.size()) {
      return fail(EPROTO, fmt::format("descriptor {} of {} bytes does not fit chunks of {}", i,
                                      length, parameters.chunk_size()));
    }
    if (descriptor.address > std::numeric_limits<std::uint64_t>::max() - length) {
      return fail(EPROTO, fmt::format("descriptor {} goes beyond the last address", i));
    }
    for (std::uint32_t offset = 0; offset < length; offset += parameters.chunk_size()) {
      chunks.push_back({descriptor.address + offset, descriptor.key});
    }
  }
  if (chunks.size() != parameters.queue_depth) {
    return fail(EPROTO, fmt::format("INFO_RSP describes {} chunks of {}", chunks.size(),
                                    parameters.queue_depth));
  }
  return chunks;
}

bool valid_session_name(std::string_view name) {
  return !name.empty() && name.size() < kNameField &&
         name.find_first_of(std::string_view("/.\0", 3)) == std::string_view::npos;
}

ConnectResponse make_reject(int error) {
  ConnectResponse response;
  response.error = static_cast<std::uint16_t>(-error);
  return response;
}

ConnectResponse make_accept(const ServerParameters& parameters) {
  ConnectResponse response;
  response.queue_depth = static_cast<std::uint16_t>(parameters.queue_depth);
  response.max_io_size = parameters.max_io_size;
  response.max_header_size = parameters.max_header_size;
  response.flags = parameters.new_key ? kNewKey : 0;
  return response;
}

}  // namespace rnbd::rtrs
